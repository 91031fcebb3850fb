"""ResNets: plain, with kernel warehouses, with the compared dynamic convolutions, with attention.

The published KernelWarehouse models (https://github.com/OSVAI/KernelWarehouse): every stage has a
warehouse; the first 1x1 (or, in basic blocks, first 3x3) convolution of a stage and its
downsampling draw on the previous stage's, since they share its channels. Static are the stem and,
where there is none before, those layers of the first stage (layer1.0.conv1 of a basic block has the
stage's own shape and joins it).

Keys are torchvision's in mmpretrain, in timm and in the published files.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.utils import SELayer
from torch import nn

from ..checkpoints import LayoutNames
from ..checkpoints.architectures import Architecture, register
from ..checkpoints.layouts import Entries, Prefixes
from ..compared import CondConv2d, DCDConv2d, DYConv2d
from ..compared.feature_attention import CBAM, ECA
from ..validation import check_choice, check_flag
from ..warehouse import kw_layers
from ..warehouse.budget import Budget, as_budget
from ..warehouse.sharing import Plan
from .base import CheckpointedStage, KWBackbone, StaticBackbone
from .dynamic import Blocks, DynamicBackbone, conv_type
from .inherited import (
    check_known,
    check_per_stage,
    check_without_counterpart,
    set_geometry,
    take_pretrained,
)
from .options import collect_options

DROP_PATH_MODES = ('constant', 'linear')
ATTENTIONS = {'se': SELayer, 'cbam': CBAM, 'eca': ECA}
# with the classifier, the choice that gives the reported 81.35 M of ResNet-18 CondConv 8x
CONDCONV_BLOCKS = 3
BASIC = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}  # blocks of each stage: depth
BOTTLENECK = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
STEM_CHANNELS = 64
FIRST_NORM = re.compile(r'layer1\.0\.(?!conv)[a-z]+1\.weight$')  # bn1, gn1, ...
RGB = 3
MOST_STAGES = 4
STRIDES = (1, 2, 2, 2)
# the three convolutions of a deep stem (ResNetV1c, V1d) elsewhere and in mmpretrain
MMDET_STEM: Prefixes = tuple(
    (f'stem.{3 * i + j}.', f'stem.{i}.{part}.')
    for i in range(3)
    for j, part in enumerate(('conv', 'bn'))
)
TIMM_STEM: Prefixes = (
    *((old.replace('stem', 'conv1'), new) for old, new in MMDET_STEM[:-1]),
    ('bn1.', 'stem.2.bn.'),
)


@MODELS.register_module(force=True)
class StaticResNet(StaticBackbone, ResNet):
    """mmpretrain's ResNet with the published defaults.

    Args:
        depth: 18, 34, 50, 101 or 152.
        drop_path_rate: Probability of dropping a residual branch.
        drop_path_mode: 'constant' (published: the same rate for every block) or 'linear'
            (mmpretrain's ramp).
        zero_init_residual: mmpretrain's option; False as in the published models.
        contract_dilation: mmseg's option: the first block of a dilated stage has half the dilation.
        multi_grid: mmseg's option: a dilation for each block of the last stage.
        stem_channels: As in mmpretrain; None, as in mmdet, for as many as ``base_channels``.
        pretrained: As in mmdet and mmseg: a checkpoint, short for an ``init_cfg``.
        dcn, plugins, groups: mmdet's; refused unless they do nothing. ``stage_with_dcn`` and
            ``base_width`` belong to them.
        **kwargs: Everything else :class:`mmpretrain.models.ResNet` takes.

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: A bad depth, mode, stage or number of frozen stages, or an option of mmdet's
            that has no counterpart; the message names ones that work.
    """

    def __init__(
        self,
        depth: int,
        *,
        drop_path_rate: float = 0.0,
        drop_path_mode: str = 'constant',
        zero_init_residual: bool = False,
        contract_dilation: bool = False,
        multi_grid: Sequence[int] | None = None,
        stem_channels: int | None = STEM_CHANNELS,
        base_channels: int = STEM_CHANNELS,
        pretrained: str | None = None,
        dcn: Any = None,
        stage_with_dcn: Any = None,
        plugins: Any = None,
        groups: int = 1,
        base_width: int | None = None,
        **kwargs,
    ):
        check_known(type(self), kwargs)
        check_choice('depth', depth, self.arch_settings)
        kwargs = {**_usual_stages(**kwargs), **kwargs}
        check_choice('drop_path_mode', drop_path_mode, DROP_PATH_MODES)
        check_without_counterpart(type(self), dict(dcn=dcn, plugins=plugins, groups=groups))
        _check_stages(**kwargs)
        super().__init__(
            depth,
            drop_path_rate=float(drop_path_rate),
            zero_init_residual=zero_init_residual,
            stem_channels=base_channels if stem_channels is None else stem_channels,
            base_channels=base_channels,
            **take_pretrained(kwargs, pretrained),
        )
        if multi_grid is not None or contract_dilation:
            self._dilate(contract_dilation, multi_grid)
        if drop_path_mode == 'constant' and drop_path_rate:
            for stage in self.stages():
                for block in stage:
                    block.drop_path = DropPath(drop_path_rate)

    def stages(self) -> list[nn.Sequential]:
        """layer1 ... layer4."""
        return [getattr(self, name) for name in self.res_layers]

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0 and not self.deep_stem:
            self.conv1.eval()  # where conv_cfg names a layer with norms of its own

    def make_res_layer(self, **kwargs) -> nn.Sequential:
        stage = super().make_res_layer(**kwargs)
        return CheckpointedStage.of(stage) if kwargs['with_cp'] else stage

    def layout_names(self) -> LayoutNames:
        """Keys of this backbone in other layouts: stems and downsampling have several names."""
        names = super().layout_names()
        unit_stride = [i for i, stride in enumerate(self.strides, start=1) if stride == 1]
        pooled = pooled_downsampling(unit_stride) if self.avg_down else ()
        static = {**names.static, 'mmdet': MMDET_STEM + pooled, 'timm': TIMM_STEM + pooled}
        if not self.deep_stem and not pooled:
            static = names.static
        left_out = tuple(f'layer{i}.' for i in range(self.num_stages + 1, MOST_STAGES + 1))
        return replace(names, static=static, foreign=names.foreign + left_out)

    def _dilate(self, contract: bool, multi_grid: Sequence[int] | None) -> None:
        """Dilations that differ between the blocks of a stage, as in mmseg."""
        last = len(self.stage_blocks) - 1
        for number, (stage, dilation) in enumerate(zip(self.stages(), self.dilations)):
            grid = [dilation] * len(stage)
            if multi_grid is not None and number == last:
                check_per_stage('multi_grid', multi_grid, len(stage), 'block of the last stage')
                grid = list(multi_grid)
            elif contract and dilation > 1:
                grid[0] = dilation // 2
            for block, value in zip(stage, grid):
                conv = block.conv2 if hasattr(block, 'conv3') else block.conv1
                set_geometry(conv, dilation=value)


def pooled_downsampling(stages: Sequence[int]) -> Prefixes:
    """Names of downsampling layers where mmdet and timm pool, even by a stride of 1, before them.

    Args:
        stages: Numbers of the stages with a stride of 1, for which mmpretrain has no pooling.
    """
    return tuple(
        (f'layer{stage}.0.downsample.{i + 1}.', f'layer{stage}.0.downsample.{i}.')
        for stage in stages
        for i in (0, 1)
    )


def _usual_stages(num_stages: int = MOST_STAGES, **others: Any) -> dict[str, Any]:
    """Strides, dilations and output of a network of so many stages.

    Raises:
        ValueError: A number that is not 1 to 4.
    """
    if isinstance(num_stages, bool) or num_stages not in range(1, MOST_STAGES + 1):
        raise ValueError(
            f'num_stages must be from 1 to {MOST_STAGES}, got num_stages={num_stages!r}'
        )
    return dict(
        num_stages=num_stages,
        strides=STRIDES[:num_stages],
        dilations=(1,) * num_stages,
        out_indices=(num_stages - 1,),
    )


def _check_stages(
    num_stages: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    out_indices: Sequence[int],
    frozen_stages: int = -1,
    **others: Any,
) -> None:
    check_per_stage('strides', strides, num_stages)
    check_per_stage('dilations', dilations, num_stages)
    if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= num_stages:
        raise ValueError(
            f'frozen_stages must be from -1 (nothing) and 0 (stem) to {num_stages}, got '
            f'{frozen_stages!r}'
        )
    outputs = out_indices if isinstance(out_indices, Sequence) else ()
    if not outputs or not set(outputs) <= set(range(num_stages)):
        raise ValueError(
            f'out_indices must be stages, 0 to {num_stages - 1}, got out_indices={out_indices!r}'
        )


@MODELS.register_module(force=True)
class KWResNet(KWBackbone, StaticResNet):
    """ResNet with convolutions mixed from warehouses; by default the published model of its budget.

    Args:
        depth: 18, 34, 50, 101 or 152.
        budget: b, cells per mixture. Published: 1/4, 1/2, 1, 2, 4 (depth 18) and 1/2, 1, 4 (depth
            50).
        **kwargs: All other :class:`~kw_mm.models.options.WarehouseOptions`. By default the plan is
            that of :func:`resnet_plan`; for b < 1 ``cell_ratio`` is (1/2, 1/2) and, with bottleneck
            blocks, ``nonlocal_basis_ratio`` 1/16, as in the published R50 1/2x. Everything else
            :class:`StaticResNet` takes: ``drop_path_rate``, ``drop_path_mode``, options of mmdet's
            and mmseg's ResNets and all of :class:`mmpretrain.models.ResNet` (``out_indices``,
            ``frozen_stages``, ``norm_eval``, ``with_cp``, ...).
        cells_of_all_stages: With ``num_stages`` below 4, whether the warehouses also have the
            cells that belong to the stages left out, as weights of the whole network have them.

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: A bad depth, budget or option; the message names one that works.

    Example:
        >>> backbone = KWResNet(depth=50, budget=1, out_indices=(0, 1, 2, 3)).eval()
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 256, 16, 16), (1, 512, 8, 8), (1, 1024, 4, 4), (1, 2048, 2, 2)]
    """

    def __init__(
        self, depth: int, budget: Budget = 1, *, cells_of_all_stages: bool = False, **kwargs
    ):
        check_flag('cells_of_all_stages', cells_of_all_stages)
        published = published_options(depth, as_budget(budget))
        options, others = collect_options(type(self), kwargs, **published)
        wanted = {**_usual_stages(**others), **others}
        super().__init__(depth, **(_of_all_stages(wanted) if cells_of_all_stages else others))
        self.cells_of_all_stages = cells_of_all_stages
        self.put_warehouses(options, options.sharing or resnet_plan(self.stages()))
        self._leave_out_stages(wanted['num_stages'])

    def _leave_out_stages(self, number: int) -> None:
        """Keep the first stages, and the warehouses that they draw on, as they are."""
        for name in self.res_layers[number:]:
            delattr(self, name)
        for option in ('res_layers', 'stage_blocks', 'strides', 'dilations'):
            setattr(self, option, getattr(self, option)[:number])
        self.num_stages, self.feat_dim = number, self.stages()[-1][-1].out_channels
        used = {layer.warehouse_name for layer in kw_layers(self).values()}
        self.left_out = [name for name in self.warehouses if name not in used]
        for name in self.left_out:
            del self.warehouses[name]

    def layout_names(self) -> LayoutNames:
        """Keys of this backbone in other layouts."""
        names = super().layout_names()
        if self.num_stages == MOST_STAGES:
            return names
        if self.cells_of_all_stages:
            left_out = tuple(f'warehouses.{name}.' for name in self.left_out)
            return replace(names, foreign=names.foreign + left_out)
        return replace(
            names,
            advice='weights of all four stages need cells_of_all_stages=True beside '
            f'num_stages={self.num_stages}, since stages share cells',
        )


def _of_all_stages(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the network of which those of fewer stages are the first."""
    number = options['num_stages']
    strides = (*options['strides'], *STRIDES[number:])
    dilations = (*options['dilations'], *(1,) * (MOST_STAGES - number))
    return {**options, 'num_stages': MOST_STAGES, 'strides': strides, 'dilations': dilations}


def published_options(depth: int, budget: Fraction) -> dict[str, Any]:
    """What the published models change with depth and budget."""
    if budget >= 1:
        return dict(budget=budget)
    basis = 1 if depth in BASIC.values() else 1 / 16
    return dict(budget=budget, cell_ratio=(1 / 2, 1 / 2), nonlocal_basis_ratio=basis)


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
                earlier = index == 0 and _sees_previous_stage(conv, block, number)
                source = number - 1 if earlier else number
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


@MODELS.register_module(force=True)
class DynamicResNet(DynamicBackbone, StaticResNet):
    """ResNet with the compared dynamic convolutions, by default where their publications have them.

    So it has the published sizes. Static is the stem. Downsampling layers are dynamic for DY-Conv
    only, and CondConv replaces the last three blocks' convolutions, those of a block sharing one
    routing.

    Args:
        depth: 18, 34, 50, 101 or 152.
        conv: Type and options of the convolution, e.g. ``dict(type='ODConv2d', num_kernels=4)``;
            types are 'DYConv2d', 'ODConv2d', 'CondConv2d', 'DCDConv2d' and 'FDConv2d'.
        layers: Names of the convolutions to replace, if others than published.
        temperature: Softmax temperature to begin with, default 1; loaded weights and
            :class:`AttentionTemperatureHook` may change it.
        train_attention_in_frozen_stages: Whether attention branches in ``frozen_stages`` still
            train; by default those of FDConv do, as published, and no others.
        **kwargs: Everything else :class:`StaticResNet` takes (``out_indices``, ``frozen_stages``,
            ``norm_eval``, ``with_cp``, ``drop_path_rate``, ...).

    Raises:
        TypeError, ValueError: A bad depth, type or option; the message names one that works.

    Example:
        >>> backbone = DynamicResNet(depth=18, conv=dict(type='ODConv2d', num_kernels=4)).eval()
        >>> backbone(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 512, 2, 2])
    """

    def __init__(
        self,
        depth: int,
        conv: dict[str, Any],
        *,
        layers: Sequence[str] | None = None,
        temperature: float | None = None,
        train_attention_in_frozen_stages: bool | None = None,
        **kwargs,
    ):
        layer = conv_type(conv)
        super().__init__(depth, **kwargs)
        if issubclass(layer, DCDConv2d):
            conv = {'pool_size': 2 if depth < 50 else 1, **conv}
        blocks = resnet_blocks(self)
        chosen = published_layers(blocks, layer) if layers is None else layers
        self.put_convs(conv, blocks, chosen, temperature, train_attention_in_frozen_stages)


def resnet_blocks(backbone: StaticResNet) -> dict[str, list[str]]:
    """``{block: [names of its convolutions]}`` in network order."""
    return {
        f'{stage}.{index}': [
            f'{stage}.{index}.{name}'
            for name, module in block.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        for stage in backbone.res_layers
        for index, block in enumerate(getattr(backbone, stage))
    }


def published_layers(blocks: Blocks, conv: type) -> list[str]:
    """Names of the layers whose replacement gives the published sizes."""
    chosen = list(blocks.values())
    if issubclass(conv, CondConv2d):
        chosen = chosen[-CONDCONV_BLOCKS:]
    names = [name for block in chosen for name in block]
    if issubclass(conv, DYConv2d):
        return names
    return [name for name in names if '.downsample.' not in name]


@MODELS.register_module(force=True)
class AttentionResNet(StaticResNet):
    """ResNet with attention to features, for comparison: SE, CBAM or ECA.

    Every residual branch ends with it. It stands where drop path does, and before it, so that
    blocks and their other keys stay mmpretrain's.

    Args:
        depth: 18, 34, 50, 101 or 152.
        attention: 'se' (mmpretrain's), 'cbam' or 'eca'.
        **kwargs: As in :class:`StaticResNet`.

    Raises:
        ValueError: An unknown attention.
    """

    def __init__(self, depth: int, attention: str = 'se', **kwargs):
        check_choice('attention', attention, ATTENTIONS)
        super().__init__(depth, **kwargs)
        for stage in self.stages():
            for block in stage:
                module = ATTENTIONS[attention](block.out_channels)
                block.drop_path = nn.Sequential(
                    OrderedDict(attention=module, drop_path=block.drop_path)
                )
        self._freeze_stages()


def recognise_resnet(entries: Entries) -> dict[str, Any] | None:
    """``dict(depth=...)`` of a ResNet's weights; None for another network, or other blocks.

    Of a ResNetV1c or V1d there are ``deep_stem`` and ``avg_down``, too.
    """
    blocks, is_bottleneck = _blocks_of(entries)
    depth = (BOTTLENECK if is_bottleneck else BASIC).get(blocks)
    return dict(depth=depth, **_variant_of(entries)) if depth else None


def describe_resnet(entries: Entries) -> str | None:
    """A ResNet's weights in words; also one with other blocks than those of our depths."""
    blocks, _ = _blocks_of(entries)
    if not blocks:
        return None
    known = recognise_resnet(entries)
    numbers = '-'.join(map(str, blocks))
    words = f'ResNet-{known["depth"]}' if known else f'a ResNet with {numbers} blocks'
    parts = list(_unusual_parts(entries))
    return ' with '.join([words, ' and '.join(parts)]) if parts else words


def _unusual_parts(entries: Entries) -> Iterator[str]:
    """What distinguishes a ResNet's weights from those of the usual one of its depth."""
    variant = _variant_of(entries)
    if 'deep_stem' in variant:
        yield 'a stem of three convolutions (deep_stem=True, as in ResNetV1c)'
    stem = entries.get('conv1.weight')
    if stem is not None and len(stem) != STEM_CHANNELS:
        yield f'a stem of {len(stem)} channels'
    if stem is not None and stem.dim() == 4 and stem.shape[1] != RGB:
        yield f'in_channels={stem.shape[1]}'
    norms = (value for key, value in entries.items() if FIRST_NORM.match(key))
    channels = len(next(norms, range(STEM_CHANNELS)))
    if channels != STEM_CHANNELS:
        yield f'base_channels={channels}'
    if 'avg_down' in variant:
        yield 'pooling before downsampling (avg_down=True, as in ResNetV1d)'


def _variant_of(entries: Entries) -> dict[str, bool]:
    """Options of ResNetV1c and V1d that weights reveal by their keys."""
    starts = dict(deep_stem=('stem.0.', 'conv1.0.'), avg_down=('layer2.0.downsample.2.',))
    return {
        option: True
        for option, start in starts.items()
        if any(key.startswith(start) for key in entries)
    }


def _blocks_of(entries: Entries) -> tuple[tuple[int, ...], bool]:
    """Number of blocks of each stage, and whether they are bottlenecks."""
    keys = [re.match(r'layer(\d)\.(\d+)\.(conv\d)\.', key) for key in entries]
    found = [(int(key[1]), int(key[2]), key[3]) for key in keys if key]
    stages = max((stage for stage, _, _ in found), default=0)
    blocks = tuple(
        1 + max((index for stage, index, _ in found if stage == number), default=-1)
        for number in range(1, stages + 1)
    )
    return blocks, any(conv == 'conv3' for _, _, conv in found)


register(
    Architecture(
        name='ResNets of depth 18, 34, 50, 101 and 152',
        recognise=recognise_resnet,
        describe=describe_resnet,
        static=StaticResNet,
        kw=KWResNet,
        dynamic=DynamicResNet,
        plan=lambda backbone, budget: resnet_plan(backbone.stages()),
    )
)
