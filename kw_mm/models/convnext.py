"""ConvNeXts: plain, and with kernel warehouses.

The published KernelWarehouse model (https://github.com/OSVAI/KernelWarehouse, KW 1x): all layers
are mixed. The stem and each downsampling convolution have a warehouse of their own; every stage has
one for its depthwise and one for its pointwise layers. Attention branches normalise with LayerNorm,
and the layers keep their bias.

The paper's text differs in two points, both options here. It splits the nine-block stage into three
stages of equal size (``split_stage3``); the published model does not, as its 39.37 M parameters
tell (split: 35.92 M). And it has a KW 3/4x, of which no model is published: the pointwise layers of
the last two stages get b = 1/2 and cells of half the common divisor, all others stay at b = 1.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ConvNeXt
from torch import nn

from ..checkpoints import LayoutNames
from ..checkpoints.architectures import Architecture, register
from ..checkpoints.layouts import Entries, Prefixes, numbered_blocks
from ..warehouse.budget import Budget, as_budget
from ..warehouse.sharing import Plan
from .base import CheckpointedStage, KWBackbone, StaticBackbone
from .options import collect_options

THREE_QUARTERS = Fraction(3, 4)
LAST_STAGES = 2  # that KW 3/4x makes smaller
STAGE_PARTS = 3  # of the third stage, in the paper's text
# the depthwise convolution of a block in mmpretrain's, ConvNeXt's own, timm's and torchvision's
# names
BLOCK_KEY = re.compile(
    r'(?:stages\.(?P<stage>\d)|features\.(?P<feature>\d))\.(?:blocks\.)?\d+\.'
    r'(?:depthwise_conv|dwconv|conv_dw|block\.0)\.bias$'
)


def facebook_convnext(depths: Sequence[int], outputs: Sequence[int] = ()) -> Prefixes:
    """Names of ConvNeXt's own repository, which the published files share, and mmpretrain's.

    A classifier's only norm is ``norm``; with several ``outputs`` every one has its own ``normK``.
    """
    last = f'norm{len(depths) - 1}.'
    pairs = [(last, last)] if len(outputs) > 1 else []
    pairs.append(('norm.', last))
    for stage, index in numbered_blocks(depths, first=0):
        block = f'stages.{stage}.{index}'
        pairs += [
            (f'{block}.dwconv.', f'{block}.depthwise_conv.'),
            (f'{block}.pwconv1.', f'{block}.pointwise_conv1.'),
            (f'{block}.pwconv2.', f'{block}.pointwise_conv2.'),
        ]
    return tuple(pairs)


def timm_convnext(depths: Sequence[int]) -> Prefixes:
    """timm's names of ConvNeXt and mmpretrain's."""
    pairs = [('stem.', 'downsample_layers.0.'), ('head.norm.', f'norm{len(depths) - 1}.')]
    for stage in range(1, len(depths)):
        pairs.append((f'stages.{stage}.downsample.', f'downsample_layers.{stage}.'))
    for stage, index in numbered_blocks(depths, first=0):
        theirs, ours = f'stages.{stage}.blocks.{index}', f'stages.{stage}.{index}'
        pairs += [
            (f'{theirs}.conv_dw.', f'{ours}.depthwise_conv.'),
            (f'{theirs}.mlp.fc1.', f'{ours}.pointwise_conv1.'),
            (f'{theirs}.mlp.fc2.', f'{ours}.pointwise_conv2.'),
            (f'{theirs}.', f'{ours}.'),
        ]
    return tuple(pairs)


def torchvision_convnext(depths: Sequence[int]) -> Prefixes:
    """torchvision's names of ConvNeXt and mmpretrain's."""
    pairs = [('classifier.0.', f'norm{len(depths) - 1}.')]
    for stage in range(len(depths)):
        pairs.append((f'features.{2 * stage}.', f'downsample_layers.{stage}.'))
    for stage, index in numbered_blocks(depths, first=0):
        theirs, ours = f'features.{2 * stage + 1}.{index}', f'stages.{stage}.{index}'
        pairs += [
            (f'{theirs}.block.0.', f'{ours}.depthwise_conv.'),
            (f'{theirs}.block.2.', f'{ours}.norm.'),
            (f'{theirs}.block.3.', f'{ours}.pointwise_conv1.'),
            (f'{theirs}.block.5.', f'{ours}.pointwise_conv2.'),
            (f'{theirs}.layer_scale', f'{ours}.gamma'),
        ]
    return tuple(pairs)


def convnext_names(depths: Sequence[int]) -> dict[str, Prefixes]:
    """Names of plain ConvNeXts, by project."""
    return {
        'facebook': facebook_convnext(depths),
        'timm': timm_convnext(depths),
        'torchvision': torchvision_convnext(depths),
        'mmpretrain': (),
    }


@MODELS.register_module(force=True)
class StaticConvNeXt(StaticBackbone, ConvNeXt):
    """mmpretrain's ConvNeXt, which loads weights of several projects.

    Their names may be mmpretrain's, timm's, torchvision's or those of ConvNeXt's own repository. A
    classifier's file has only the norm of the last stage, of averaged features; a backbone with
    several outputs leaves it out, as published, and keeps the start of its own output norms. The
    log says so.

    Args:
        arch: 'tiny', 'small', 'base', ... or ``dict(depths=[...], channels=[...])``.
        with_cp: Recompute blocks in the backward pass, without reentrance.
        **kwargs: Everything else :class:`mmpretrain.models.ConvNeXt` takes. For detection:
            ``out_indices=[0, 1, 2, 3]`` and ``gap_before_final_norm=False``.
    """

    def __init__(self, arch='tiny', *, with_cp: bool = False, **kwargs):
        super().__init__(arch, with_cp=False, **kwargs)
        if with_cp:
            self.stages = nn.ModuleList(CheckpointedStage.of(stage) for stage in self.stages)

    def layout_names(self) -> LayoutNames:
        """Keys in the authors' files (ConvNeXt's own for the layers) and in plain ones."""
        return replace(
            super().layout_names(),
            published=facebook_convnext(self.depths, self.out_indices),
            static=convnext_names(self.depths),
            classifier='head.',
            optional=tuple(f'norm{stage}.' for stage in range(len(self.depths))),
            lonely=f'norm{len(self.depths) - 1}.' if len(self.out_indices) > 1 else '',
        )


@MODELS.register_module(force=True)
class KWConvNeXt(KWBackbone, StaticConvNeXt):
    """ConvNeXt with convolutions mixed from warehouses; by default the published KW 1x of Tiny.

    Args:
        arch: 'tiny', 'small', 'base', ... or ``dict(depths=[...], channels=[...])``.
        budget: b, cells per mixture. 1 is published; 3/4 is the paper's, see above. Any other b
            below 1 is that of the pointwise layers, with cells of half the common divisor; above 1,
            of all layers.
        split_stage3: Split the third stage into three that share nothing, as in the paper's text.
        **kwargs: All other :class:`~kw_mm.models.options.WarehouseOptions` but ``cell_ratio``,
            which stands in the plan. By default the plan is that of :func:`convnext_plan`, and
            ``attention_norm`` is 'LN'. Everything else :class:`StaticConvNeXt` takes
            (``out_indices``, ``gap_before_final_norm``, ``drop_path_rate``, ``linear_pw_conv``,
            ``layer_scale_init_value``, ``frozen_stages``, ``with_cp``, ...).

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: A bad budget or option; the message names one that works.

    Example:
        >>> options = dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False)
        >>> backbone = KWConvNeXt('tiny', **options).eval()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 96, 16, 16), (1, 192, 8, 8), (1, 384, 4, 4), (1, 768, 2, 2)]
    """

    def __init__(self, arch='tiny', budget: Budget = 1, *, split_stage3: bool = False, **kwargs):
        budget = as_budget(budget)
        options, others = collect_options(
            type(self), kwargs, refused=('cell_ratio',), budget=budget, attention_norm='LN'
        )
        super().__init__(arch, **others)
        self._shape_layer_scales()
        plan = options.sharing or convnext_plan(self.depths, budget, split_stage3)
        self.put_warehouses(options, plan)

    def _shape_layer_scales(self) -> None:
        """Give layer scales the published shape, by which optimizers decay them."""
        for stage in self.stages:
            for block in stage:
                if block.gamma is not None:
                    block.gamma = nn.Parameter(block.gamma.detach().view(1, -1, 1, 1))


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
        layers = [f'downsample_layers.{stage}.1']
        plan[f'stage{stage + 1}_downsample'] = dict(layers=layers, budget=rest)
    for stage, depth in enumerate(depths):
        pointwise = _pointwise_options(budget, stage >= len(depths) - LAST_STAGES)
        for name, numbers in _parts(stage, depth, split_stage3).items():
            blocks = [f'stages.{stage}.{number}' for number in numbers]
            layers = [f'{block}.depthwise_conv' for block in blocks]
            plan[f'{name}_depthwise'] = dict(layers=layers, budget=rest)
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
    if depth % STAGE_PARTS:
        raise ValueError(
            f'split_stage3=True needs a third stage of 3, 6, 9, ... blocks; this one has {depth}'
        )
    size = depth // STAGE_PARTS
    return {
        f'{name}{"abc"[part]}': numbers[part * size : (part + 1) * size]
        for part in range(STAGE_PARTS)
    }


def network_budget(ratios: Mapping[str, Fraction]) -> Fraction:
    """b of a ConvNeXt below 1: 3/4 where only the last stages save cells, else the least."""
    return THREE_QUARTERS if ratios['stage1_pointwise'] == 1 else min(ratios.values())


def recognise_convnext(entries: Entries) -> dict[str, Any] | None:
    """``dict(arch=..., out_indices=...)`` of a ConvNeXt's weights; None for another network."""
    depths, channels = Counter(), {}
    for key, value in entries.items():
        match = BLOCK_KEY.match(key)
        if match:
            stage = int(match['stage']) if match['stage'] else int(match['feature']) // 2
            depths[stage] += 1
            channels[stage] = len(value)
    if not depths:
        return None
    stages = sorted(depths)
    outputs = [stage for stage in stages if f'norm{stage}.weight' in entries] or stages[-1:]
    arch = dict(
        depths=[depths[stage] for stage in stages], channels=[channels[stage] for stage in stages]
    )
    return dict(arch=arch, out_indices=outputs)


def describe_convnext(entries: Entries) -> str | None:
    """A ConvNeXt's weights in words."""
    known = recognise_convnext(entries)
    if known is None:
        return None
    depths, channels = ('-'.join(map(str, known['arch'][key])) for key in ('depths', 'channels'))
    return f'a ConvNeXt with {depths} blocks of {channels} channels'


register(
    Architecture(
        name='ConvNeXts',
        recognise=recognise_convnext,
        describe=describe_convnext,
        static=StaticConvNeXt,
        kw=KWConvNeXt,
        plan=lambda backbone, budget: convnext_plan(backbone.depths, budget),
        budget=network_budget,
    )
)
