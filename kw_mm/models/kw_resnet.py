"""ResNet with kernel warehouses.

The published models (https://github.com/OSVAI/KernelWarehouse): every stage has a warehouse; the
first 1x1 (or, in basic blocks, first 3x3) convolution of a stage and its downsampling draw on the
previous stage's, since they share its channels. Static are the stem and, where there is none
before, those layers of the first stage (layer1.0.conv1 of a basic block has the stage's own shape
and joins it).
"""

from collections.abc import Sequence
from fractions import Fraction

from mmengine.registry import MODELS
from torch import nn

from ..warehouse.budget import Budget, as_budget
from ..warehouse.kernel_attention import Norm
from ..warehouse.sharing import Plan
from .base import KWBackbone, take_options
from .static_resnet import StaticResNet


@MODELS.register_module()
class KWResNet(KWBackbone, StaticResNet):
    """ResNet whose convolutions are mixed from warehouses; by default the published model of its budget.

    Args:
        depth: 18, 34, 50, 101 or 152.
        budget: b, cells per mixture. Published: 1/4, 1/2, 1, 2, 4 (depth 18) and 1/2, 1, 4 (depth
            50).
        sharing: ``{warehouse: [layer names]}``; default the published plan (:func:`resnet_plan`).
        cell_ratio: (output, input) share of the common channel divisor; default 1, and 1/2 of each
            for b < 1.
        reduction: Hidden units of an attention branch per input channel.
        nonlocal_basis_ratio: Size of the basis for attention to other layers' cells; default 1
            (none), and 1/16 for bottleneck depths with b < 1, as in the published R50 1/2x.
        attention_norm: 'BN1d' (published), 'LN', 'SyncBN' or 'none'.
        init: 'published' or 'plain', see :func:`kw_mm.warehouse.apply_kernel_warehouse`.
        freeze_warehouses: What ``frozen_stages`` does to shared warehouses: 'none' (published),
            'exclusive' or 'strict', see :func:`kw_mm.warehouse.freeze_warehouses`.
        temperature: tau to begin with; loaded weights and :class:`AttentionTemperatureHook` may
            change it.
        **kwargs: ``assemble_checkpoint`` and the options of the paper's ablations,
            ``attention_function``, ``zero_cell``, ``start``, ``partition`` and ``sharing_range``,
            see :func:`kw_mm.warehouse.apply_kernel_warehouse`. Everything else
            :class:`StaticResNet` takes: ``drop_path_rate``, ``drop_path_mode`` and all of
            :class:`mmpretrain.models.ResNet` (``out_indices``, ``frozen_stages``, ``norm_eval``,
            ``with_cp``, ...).

    Raises:
        ValueError: A bad depth, budget or option; the message names one that works.

    Example:
        >>> backbone = KWResNet(depth=50, budget=1, out_indices=(0, 1, 2, 3)).eval()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 256, 16, 16), (1, 512, 8, 8), (1, 1024, 4, 4), (1, 2048, 2, 2)]
    """

    def __init__(
        self,
        depth: int,
        budget: Budget = 1,
        *,
        sharing: Plan | None = None,
        cell_ratio: tuple[float, float] | None = None,
        reduction: float = 1 / 16,
        nonlocal_basis_ratio: float | None = None,
        attention_norm: Norm = 'BN1d',
        init: str = 'published',
        freeze_warehouses: str = 'none',
        temperature: float = 0.0,
        **kwargs,
    ):
        budget, further = as_budget(budget), take_options(kwargs)
        super().__init__(depth, **kwargs)
        preset = published_options(depth, budget)
        chosen = dict(cell_ratio=cell_ratio, nonlocal_basis_ratio=nonlocal_basis_ratio)
        preset.update({name: value for name, value in chosen.items() if value is not None})
        options = dict(
            budget=budget,
            reduction=reduction,
            attention_norm=attention_norm,
            init=init,
            **preset,
            **further,
        )
        self._put_warehouses(
            sharing or resnet_plan(self.stages()), freeze_warehouses, temperature, options
        )


def published_options(depth: int, budget: Fraction) -> dict[str, object]:
    """What the published presets change with depth and budget."""
    if budget >= 1:
        return dict(cell_ratio=(1, 1), nonlocal_basis_ratio=1)
    return dict(cell_ratio=(1 / 2, 1 / 2), nonlocal_basis_ratio=1 / 16 if depth >= 50 else 1)


def resnet_plan(stages: Sequence[nn.Sequential]) -> Plan:
    """The published sharing plan of a ResNet.

    Args:
        stages: layer1, layer2, ...; blocks with ``conv1``, ``conv2`` (``conv3``) and
            ``downsample``.

    Returns:
        dict: Warehouse ``stage1`` ... and the layers that draw on each, in network order.
    """
    plan: dict[str, list[str]] = {}
    for number, stage in enumerate(stages, start=1):
        for index, block in enumerate(stage):
            for conv in _conv_names(block):
                source = (
                    number - 1
                    if index == 0 and _sees_previous_stage(conv, block, number)
                    else number
                )
                if source:
                    plan.setdefault(f'stage{source}', []).append(f'layer{number}.{index}.{conv}')
    return plan


def _conv_names(block: nn.Module) -> list[str]:
    names = [name for name in ('conv1', 'conv2', 'conv3') if hasattr(block, name)]
    if block.downsample is not None:
        names += [
            f'downsample.{i}'
            for i, layer in enumerate(block.downsample)
            if isinstance(layer, nn.Conv2d)
        ]
    return names


def _sees_previous_stage(conv: str, block: nn.Module, number: int) -> bool:
    """Whether a layer of a stage's first block has the previous stage's channels as input."""
    if conv.startswith('downsample'):
        return True
    return conv == 'conv1' and (number > 1 or hasattr(block, 'conv3'))
