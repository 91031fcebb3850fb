"""MobileNetV2 with kernel warehouses.

The published models (https://github.com/OSVAI/KernelWarehouse): the stem is a warehouse of its own;
the other layers form six stages, the first block of each channel group belonging to the stage
before it, and the 160- and 320-channel groups with the last 1280-channel convolution being one
stage.
"""

from collections.abc import Iterator

from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2

from ..warehouse.budget import Budget, as_budget
from ..warehouse.kernel_attention import Norm
from ..warehouse.sharing import Plan
from .base import KWBackbone, take_options
from .static_mobilenet_v2 import StaticMobileNetV2

LAST_STAGE = 6


@MODELS.register_module()
class KWMobileNetV2(KWBackbone, StaticMobileNetV2):
    """MobileNetV2 whose convolutions are mixed from warehouses; by default the published model of its budget.

    Args:
        widen_factor: Width multiplier; published are 0.5 and 1.0.
        budget: b, cells per mixture. Published: 1/2, 1 and 4.
        sharing: ``{warehouse: [layer names]}``; default the published plan
            (:func:`mobilenet_v2_plan`).
        reduction: Hidden units of an attention branch per input channel; default 1/16, and 1/32 for
            b < 1.
        nonlocal_basis_ratio, attention_norm, init, freeze_warehouses, temperature: As in
            :class:`KWResNet`.
        **kwargs: ``assemble_checkpoint`` and the options of the paper's ablations, as in
            :class:`KWResNet`. Everything else :class:`mmpretrain.models.MobileNetV2` takes
            (``out_indices``, ``frozen_stages``, ``norm_eval``, ``with_cp``, ``norm_cfg``,
            ``init_cfg``, ...).

    Raises:
        ValueError: A bad budget or option; the message names one that works.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        budget: Budget = 1,
        *,
        sharing: Plan | None = None,
        reduction: float | None = None,
        nonlocal_basis_ratio: float = 1,
        attention_norm: Norm = 'BN1d',
        init: str = 'published',
        freeze_warehouses: str = 'none',
        temperature: float = 0.0,
        **kwargs,
    ):
        budget, further = as_budget(budget), take_options(kwargs)
        super().__init__(widen_factor, **kwargs)
        if reduction is None:
            reduction = 1 / 16 if budget >= 1 else 1 / 32
        options = dict(
            budget=budget,
            reduction=reduction,
            nonlocal_basis_ratio=nonlocal_basis_ratio,
            attention_norm=attention_norm,
            init=init,
            **further,
        )
        self._put_warehouses(
            sharing or mobilenet_v2_plan(self, budget), freeze_warehouses, temperature, options
        )


def blocks(backbone: MobileNetV2) -> Iterator[tuple[str, int, list[str]]]:
    """(name, published stage, roles of its convolutions) of every inverted residual block, in network order."""
    for group in range(1, len(backbone.arch_settings) + 1):
        for index, block in enumerate(getattr(backbone, f'layer{group}')):
            stage = group - 1 if index == 0 and group > 1 else group
            roles = ['expand', 'depthwise', 'project'][-len(block.conv) :]
            yield f'layer{group}.{index}', min(stage, LAST_STAGE), roles


def mobilenet_v2_plan(backbone: MobileNetV2, budget: Budget) -> Plan:
    """The published sharing plan of a budget.

    At b = 1 a stage has one pointwise and one depthwise warehouse; above, one each for expanding,
    depthwise and projecting convolutions; below, only the last stage's pointwise layers save cells,
    the others being static, and stem and depthwise layers keep b = 1.

    Returns:
        dict: Warehouses in the order of their first layer.
    """
    plan: dict[str, dict] = {'stem': dict(layers=['conv1.conv'], budget=max(budget, 1))}
    for name, stage, roles in blocks(backbone):
        for i, role in enumerate(roles):
            _assign(plan, stage, role, f'{name}.conv.{i}.conv', budget)
    _assign(plan, LAST_STAGE, 'project', 'conv2.conv', budget)
    return plan


def _assign(plan: dict[str, dict], stage: int, role: str, layer: str, budget: Budget) -> None:
    pointwise = role != 'depthwise'
    if budget < 1 and pointwise and stage < LAST_STAGE:
        return
    warehouse = f'stage{stage}_pointwise' if budget == 1 and pointwise else f'stage{stage}_{role}'
    ratio = (1 / 2, 1 / 2) if budget < 1 and pointwise else (1, 1)
    options = dict(layers=[], budget=budget if pointwise else max(budget, 1), cell_ratio=ratio)
    plan.setdefault(warehouse, options)['layers'].append(layer)
