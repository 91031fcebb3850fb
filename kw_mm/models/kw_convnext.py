"""ConvNeXt with kernel warehouses.

The published model (https://github.com/OSVAI/KernelWarehouse, KW 1x): all layers are mixed. The
stem and each downsampling convolution have a warehouse of their own; every stage has one for its
depthwise and one for its pointwise layers. Attention branches normalise with LayerNorm, and the
layers keep their bias.

The paper's text differs in two points, both options here. It splits the nine-block stage into three
stages of equal size (``split_stage3``); the published model does not, as its 39.37 M parameters
tell (split: 35.92 M). And it has a KW 3/4x, of which no model is published: the pointwise layers of
the last two stages get b = 1/2 and cells of half the common divisor, all others stay at b = 1.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from mmengine.registry import MODELS

from ..warehouse.budget import Budget, as_budget
from ..warehouse.kernel_attention import Norm
from ..warehouse.sharing import Plan
from .base import KWBackbone, take_options
from .static_convnext import StaticConvNeXt

THREE_QUARTERS = Fraction(3, 4)
LAST_STAGES = 2  # that KW 3/4x makes smaller
PARTS = 3  # of the third stage, in the paper's text


@MODELS.register_module()
class KWConvNeXt(KWBackbone, StaticConvNeXt):
    """ConvNeXt whose convolutions are mixed from warehouses; by default the published KW 1x of ConvNeXt-Tiny.

    Args:
        arch: 'tiny', 'small', 'base', ... or ``dict(depths=[...], channels=[...])``.
        budget: b, cells per mixture. 1 is published; 3/4 is the paper's, see above. Any other b
            below 1 is that of the pointwise layers, with cells of half the common divisor; above 1,
            of all layers.
        split_stage3: Split the third stage into three that share nothing, as in the paper's text.
        sharing: ``{warehouse: [layer names]}``; default :func:`convnext_plan`.
        attention_norm: As in :class:`KWResNet`; 'LN' as published.
        reduction, nonlocal_basis_ratio, init, freeze_warehouses, temperature: As in
            :class:`KWResNet`.
        **kwargs: Everything else :class:`StaticConvNeXt` takes (``out_indices``,
            ``gap_before_final_norm``, ``drop_path_rate``, ``linear_pw_conv``,
            ``layer_scale_init_value``, ``frozen_stages``, ``with_cp``, ...).

    Raises:
        ValueError: A bad budget or option; the message names one that works.

    Example:
        >>> backbone = KWConvNeXt('tiny', out_indices=[0, 1, 2, 3], gap_before_final_norm=False).eval()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 96, 16, 16), (1, 192, 8, 8), (1, 384, 4, 4), (1, 768, 2, 2)]
    """

    def __init__(
        self,
        arch='tiny',
        budget: Budget = 1,
        *,
        split_stage3: bool = False,
        sharing: Plan | None = None,
        reduction: float = 1 / 16,
        nonlocal_basis_ratio: float = 1,
        attention_norm: Norm = 'LN',
        init: str = 'published',
        freeze_warehouses: str = 'none',
        temperature: float = 0.0,
        **kwargs,
    ):
        budget, further = as_budget(budget), take_options(kwargs)
        super().__init__(arch, **kwargs)
        options = dict(
            budget=budget,
            reduction=reduction,
            nonlocal_basis_ratio=nonlocal_basis_ratio,
            attention_norm=attention_norm,
            init=init,
            **further,
        )
        plan = sharing or convnext_plan(self.depths, budget, split_stage3)
        self._put_warehouses(plan, freeze_warehouses, temperature, options)


def convnext_plan(depths: Sequence[int], budget: Budget = 1, split_stage3: bool = False) -> Plan:
    """The sharing plan of a ConvNeXt.

    Args:
        depths: Blocks of each stage.
        budget: b of the whole network.
        split_stage3: Whether the third stage shares in three parts.

    Returns:
        dict: Warehouses in the published order: stem, downsampling, then depthwise and pointwise of
            each stage.

    Raises:
        ValueError: A third stage whose blocks cannot be split into three equal parts.
    """
    budget = as_budget(budget)
    rest = max(budget, 1)
    plan: dict[str, Any] = {'stem': dict(layers=['downsample_layers.0.0'], budget=rest)}
    for stage in range(1, len(depths)):
        plan[f'stage{stage + 1}_downsample'] = dict(
            layers=[f'downsample_layers.{stage}.1'], budget=rest
        )
    for stage, depth in enumerate(depths):
        pointwise = _pointwise_options(budget, stage >= len(depths) - LAST_STAGES)
        for name, numbers in _parts(stage, depth, split_stage3).items():
            blocks = [f'stages.{stage}.{number}' for number in numbers]
            plan[f'{name}_depthwise'] = dict(
                layers=[f'{block}.depthwise_conv' for block in blocks], budget=rest
            )
            layers = [f'{block}.pointwise_conv{i}' for block in blocks for i in (1, 2)]
            plan[f'{name}_pointwise'] = dict(layers=layers, **pointwise)
    return plan


def _pointwise_options(budget: Fraction, is_last_stage: bool) -> dict[str, Any]:
    if budget == THREE_QUARTERS:
        budget = Fraction(1, 2) if is_last_stage else Fraction(1)
    ratio = 1 if budget >= 1 else 1 / 2
    return dict(budget=budget, cell_ratio=(ratio, ratio))


def _parts(stage: int, depth: int, split_stage3: bool) -> dict[str, list[int]]:
    """{name: block numbers} of what shares warehouses in a stage."""
    name, numbers = f'stage{stage + 1}', list(range(depth))
    if not split_stage3 or stage != 2:
        return {name: numbers}
    if depth % PARTS:
        raise ValueError(
            f'split_stage3=True needs a third stage of 3, 6, 9, ... blocks; this one has {depth}'
        )
    size = depth // PARTS
    return {
        f'{name}{"abc"[part]}': numbers[part * size : (part + 1) * size] for part in range(PARTS)
    }
