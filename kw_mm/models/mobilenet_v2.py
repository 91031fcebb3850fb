"""MobileNetV2: plain, with kernel warehouses, with the compared dynamic convolutions.

The published KernelWarehouse models (https://github.com/OSVAI/KernelWarehouse): the stem is a
warehouse of its own; the other layers form six stages, the first block of each channel group
belonging to the stage before it, and the 160- and 320-channel groups with the last 1280-channel
convolution being one stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2
from torch import nn

from ..checkpoints import LayoutNames
from ..checkpoints.architectures import Architecture, register
from ..checkpoints.layouts import Entries, Prefixes, numbered_blocks
from ..compared import CondConv2d, DCDConv2d
from ..warehouse.budget import Budget, as_budget
from ..warehouse.sharing import Plan
from .base import CheckpointedStage, KWBackbone, StaticBackbone
from .dynamic import Blocks, DynamicBackbone, conv_type
from .inherited import check_known, check_per_stage, set_geometry, take_pretrained
from .options import collect_options

LAST_STAGE = 6
# our reading of CondConv; we know no published file to check it against
RESIDUAL_CONDCONV_BLOCKS = 6
LAST = 'conv2'
GROUPS = (1, 2, 3, 4, 3, 3, 1)  # blocks of each channel group; the first does not expand
STEM_CHANNELS_AT_WIDTH_1 = 32


def torchvision_mobilenet_v2() -> Prefixes:
    """torchvision's names of MobileNetV2, which the published files share, and mmpretrain's."""
    pairs = [('features.0.0.', 'conv1.conv.'), ('features.0.1.', 'conv1.bn.')]
    number = 0
    for group, index in numbered_blocks(GROUPS):
        number += 1
        theirs, ours = f'features.{number}.conv', f'layer{group}.{index}.conv'
        last = 1 if group == 1 else 2  # position of the projecting convolution
        for i in range(last):
            pairs.append((f'{theirs}.{i}.0.', f'{ours}.{i}.conv.'))
            pairs.append((f'{theirs}.{i}.1.', f'{ours}.{i}.bn.'))
        pairs.append((f'{theirs}.{last}.', f'{ours}.{last}.conv.'))
        pairs.append((f'{theirs}.{last + 1}.', f'{ours}.{last}.bn.'))
    pairs.append((f'features.{number + 1}.0.', 'conv2.conv.'))
    pairs.append((f'features.{number + 1}.1.', 'conv2.bn.'))
    return tuple(pairs)


def timm_mobilenet_v2() -> Prefixes:
    """timm's names of MobileNetV2 and mmpretrain's."""
    pairs = [
        ('conv_stem.', 'conv1.conv.'),
        ('bn1.', 'conv1.bn.'),
        ('conv_head.', 'conv2.conv.'),
        ('bn2.', 'conv2.bn.'),
    ]
    for group, index in numbered_blocks(GROUPS):
        names = ('conv_dw', 'conv_pw') if group == 1 else ('conv_pw', 'conv_dw', 'conv_pwl')
        for i, conv in enumerate(names):
            theirs, ours = f'blocks.{group - 1}.{index}', f'layer{group}.{index}.conv.{i}'
            pairs.append((f'{theirs}.{conv}.', f'{ours}.conv.'))
            pairs.append((f'{theirs}.bn{i + 1}.', f'{ours}.bn.'))
    return tuple(pairs)


NAMES: dict[str, Prefixes] = {
    'torchvision': torchvision_mobilenet_v2(),
    'timm': timm_mobilenet_v2(),
    'mmpretrain': (),
}


@MODELS.register_module(force=True)
class StaticMobileNetV2(StaticBackbone, MobileNetV2):
    """mmpretrain's MobileNetV2 with frozen stages frozen from construction on.

    mmpretrain freezes in ``train()`` only: after DistributedDataParallel has wrapped the model and
    waits for the frozen layers' gradients. Here the stem's statistics are frozen, too. Weights load
    from mmpretrain's, torchvision's and timm's names.

    Args:
        widen_factor: Width multiplier.
        strides, dilations: As in mmseg, of the first block of each of the seven channel groups;
            default stride 32 in all.
        pretrained: As in mmseg: a checkpoint, short for an ``init_cfg``.
        **kwargs: Everything else :class:`mmpretrain.models.MobileNetV2` takes.

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: Not seven strides or dilations, or a stride other than 1 and 2.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        *args,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pretrained: str | None = None,
        **kwargs,
    ):
        check_known(type(self), kwargs)
        super().__init__(widen_factor, *args, **take_pretrained(kwargs, pretrained))
        self._set_geometry(strides, dilations)
        self._freeze_stages()

    def _set_geometry(self, strides: Sequence[int] | None, dilations: Sequence[int] | None) -> None:
        usual = [setting[3] for setting in self.arch_settings]
        strides = usual if strides is None else strides
        dilations = [1] * len(usual) if dilations is None else dilations
        check_per_stage('strides', strides, len(usual), 'channel group')
        check_per_stage('dilations', dilations, len(usual), 'channel group')
        if not set(strides) <= {1, 2}:
            raise ValueError(f'strides must be 1 or 2, got strides={strides!r}')
        for group, (stride, dilation) in enumerate(zip(strides, dilations), start=1):
            block = getattr(self, f'layer{group}')[0]
            set_geometry(block.conv[-2].conv, stride=stride, dilation=dilation)
            channels = block.conv[0].conv.in_channels, block.conv[-1].conv.out_channels
            block.stride, block.use_res_connect = stride, stride == 1 and len(set(channels)) == 1

    def make_layer(self, *args, **kwargs) -> nn.Sequential:
        stage = super().make_layer(*args, **kwargs)
        return CheckpointedStage.of(stage) if self.with_cp else stage

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:
            self.conv1.eval()

    def layout_names(self) -> LayoutNames:
        """Keys in the authors' files (torchvision's for the layers) and in plain ones."""
        return replace(
            super().layout_names(),
            published=NAMES['torchvision'],
            static=NAMES,
            classifier='classifier.',
        )


@MODELS.register_module(force=True)
class KWMobileNetV2(KWBackbone, StaticMobileNetV2):
    """MobileNetV2 with convolutions mixed from warehouses; by default its budget's published model.

    Args:
        widen_factor: Width multiplier; published are 0.5 and 1.0.
        budget: b, cells per mixture. Published: 1/2, 1 and 4.
        **kwargs: All other :class:`~kw_mm.models.options.WarehouseOptions` but ``cell_ratio``,
            which stands in the plan. By default the plan is that of :func:`mobilenet_v2_plan`, and
            ``reduction`` is 1/32 for b < 1. Everything else :class:`StaticMobileNetV2` takes
            (``strides``, ``dilations``, ``out_indices``, ``frozen_stages``, ``norm_eval``,
            ``with_cp``, ``norm_cfg``, ``init_cfg``, ...).

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: A bad budget or option; the message names one that works.
    """

    def __init__(self, widen_factor: float = 1.0, budget: Budget = 1, **kwargs):
        budget = as_budget(budget)
        published = dict(budget=budget, reduction=1 / 16 if budget >= 1 else 1 / 32)
        options, others = collect_options(type(self), kwargs, refused=('cell_ratio',), **published)
        super().__init__(widen_factor, **others)
        self.put_warehouses(options, options.sharing or mobilenet_v2_plan(self, budget))


def blocks(backbone: MobileNetV2) -> Iterator[tuple[str, int, list[str]]]:
    """(name, published stage, roles of its convolutions) of every inverted residual block."""
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
    _assign(plan, LAST_STAGE, 'project', f'{LAST}.conv', budget)
    return plan


def _assign(plan: dict[str, dict], stage: int, role: str, layer: str, budget: Budget) -> None:
    pointwise = role != 'depthwise'
    if budget < 1 and pointwise and stage < LAST_STAGE:
        return
    warehouse = f'stage{stage}_pointwise' if budget == 1 and pointwise else f'stage{stage}_{role}'
    ratio = (1 / 2, 1 / 2) if budget < 1 and pointwise else (1, 1)
    options = dict(layers=[], budget=budget if pointwise else max(budget, 1), cell_ratio=ratio)
    plan.setdefault(warehouse, options)['layers'].append(layer)


@MODELS.register_module(force=True)
class DynamicMobileNetV2(DynamicBackbone, StaticMobileNetV2):
    """MobileNetV2 whose convolutions are replaced by dynamic ones.

    By default DY-Conv and ODConv (as published) replace all but the stem. CondConv replaces the
    last six blocks' convolutions, those of a block sharing one routing. DCD replaces the pointwise
    convolutions of the blocks; their latent sizes are those of DCD's ResNets here, not of its
    MobileNetV2. FDConv leaves depthwise layers and those with 16 channels or fewer plain, and
    the log names them.

    Args:
        widen_factor: Width multiplier.
        conv, layers, temperature, train_attention_in_frozen_stages: As in :class:`DynamicResNet`.
        **kwargs: Everything else :class:`StaticMobileNetV2` takes.

    Raises:
        TypeError, ValueError: A bad type or option; the message names one that works.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        conv: dict[str, Any] | None = None,
        *,
        layers: Sequence[str] | None = None,
        temperature: float | None = None,
        train_attention_in_frozen_stages: bool | None = None,
        **kwargs,
    ):
        layer = conv_type(conv)
        super().__init__(widen_factor, **kwargs)
        convs = mobilenet_v2_convs(self)
        chosen = default_layers(self, convs, layer) if layers is None else layers
        self.put_convs(conv, convs, chosen, temperature, train_attention_in_frozen_stages)


def mobilenet_v2_convs(backbone: StaticMobileNetV2) -> dict[str, list[str]]:
    """``{block: [names of its convolutions]}`` in order; the last one is a block of its own."""
    names = [*(name for name, _, _ in blocks(backbone)), LAST]
    return {
        name: [
            f'{name}.{child}'
            for child, module in backbone.get_submodule(name).named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        for name in names
    }


def default_layers(backbone: nn.Module, convs: Blocks, conv: type) -> list[str]:
    """Names of the layers that a dynamic convolution replaces by default."""
    residual = [names for block, names in convs.items() if block != LAST]
    if issubclass(conv, CondConv2d):
        return [name for names in residual[-RESIDUAL_CONDCONV_BLOCKS:] for name in names]
    if issubclass(conv, DCDConv2d):
        return [
            name for names in residual for name in names if backbone.get_submodule(name).groups == 1
        ]
    return [name for names in convs.values() for name in names]


def recognise_mobilenet_v2(entries: Entries) -> dict[str, Any] | None:
    """``dict(widen_factor=...)`` of a MobileNetV2's weights; None for another network."""
    stems = ['conv1.bn.weight', 'conv_stem.weight']
    if any(key.startswith('features.1.conv.') for key in entries):
        stems.append('features.0.1.weight')  # torchvision's other networks have this one, too
    stem = next((entries[key] for key in stems if key in entries), None)
    return None if stem is None else dict(widen_factor=len(stem) / STEM_CHANNELS_AT_WIDTH_1)


def describe_mobilenet_v2(entries: Entries) -> str | None:
    """A MobileNetV2's weights in words."""
    known = recognise_mobilenet_v2(entries)
    return known and f'MobileNetV2 {known["widen_factor"]:.4g}'


register(
    Architecture(
        name='MobileNetV2',
        recognise=recognise_mobilenet_v2,
        describe=describe_mobilenet_v2,
        static=StaticMobileNetV2,
        kw=KWMobileNetV2,
        dynamic=DynamicMobileNetV2,
        plan=mobilenet_v2_plan,
    )
)
