"""What a benchmark compares: a dynamic network with the plain one, computed in several ways."""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import UserError
from ..optimizing import optimize_for_inference
from .bare_networks import build_bare


class Network(NamedTuple):
    """An architecture: the registered names of its backbones, and the options all of them get."""

    static: str
    kw: str
    dynamic: str
    options: dict[str, Any]


class Kind(NamedTuple):
    """A dynamic convolution: which of a network's backbones it is, that backbone's options, and
    whether its attention normalises over the batch, which one image cannot train."""

    backbone: str
    options: dict[str, Any]
    batch_norm: bool = True


STAGES = (0, 1, 2, 3)
NETWORKS = {
    'r18': Network('StaticResNet', 'KWResNet', 'DynamicResNet', dict(depth=18, out_indices=STAGES)),
    'r50': Network('StaticResNet', 'KWResNet', 'DynamicResNet', dict(depth=50, out_indices=STAGES)),
    'mbv2': Network(
        'StaticMobileNetV2', 'KWMobileNetV2', 'DynamicMobileNetV2', dict(out_indices=(1, 2, 4, 7))
    ),
}
KINDS = {
    'kw1d2x': Kind('kw', dict(budget=1 / 2)),
    'kw1x': Kind('kw', dict(budget=1)),
    'kw2x': Kind('kw', dict(budget=2)),
    'kw4x': Kind('kw', dict(budget=4)),
    'odconv1x': Kind('dynamic', dict(conv=dict(type='ODConv2d', num_kernels=1))),
    'odconv4x': Kind('dynamic', dict(conv=dict(type='ODConv2d', num_kernels=4))),
    'fdconv': Kind('dynamic', dict(conv=dict(type='FDConv2d', kernel_num=64))),
    'dyconv4x': Kind('dynamic', dict(conv=dict(type='DYConv2d', num_kernels=4)), batch_norm=False),
}
BENCHMARK_MODES = ('forward', 'train')
DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16, float16=torch.float16)


class Setting(NamedTuple):
    """What is measured.

    Args:
        model: Kind and network, e.g. 'kw1x-r50', 'odconv4x-mbv2'.
        mode: 'forward' (inference) or 'train' (forward and backward; the optimizer's step is not in
            it).
        batch: Images.
        size: (height, width) in pixels.
        dtype: 'float32', or that of autocast.
        device: 'cpu', 'cuda', ...
        channels_last: Memory format of network and images.
        cells: dtype that an extra variant stores its cells in (forward only); 'float32' for none.
        recompute: Whether an extra variant mixes its kernels again in the backward pass (train
            only).
        compile: Whether an extra variant is compiled by torch.compile.
        folded: Whether extra variants have their batch norms folded into convolutions (forward
            only).
    """

    model: str
    mode: str = 'forward'
    batch: int = 1
    size: Sequence[int] = (224, 224)
    dtype: str = 'float32'
    device: str = 'cpu'
    channels_last: bool = False
    cells: str = 'float32'
    recompute: bool = False
    compile: bool = False
    folded: bool = False

    @property
    def has_warehouses(self) -> bool:
        """Whether the dynamic network draws on kernel warehouses."""
        return KINDS[self.model.partition('-')[0]].backbone == 'kw'


def check_setting(setting: Setting) -> None:
    """Refuse what would fail after minutes of measuring.

    Raises:
        UserError: An unknown model, a size below 1, a GPU that is not there, or training on one
            image where attention normalises over the batch.
    """
    model_config(setting.model)
    if min(setting.batch, *setting.size) < 1 or len(setting.size) != 2:
        raise UserError(
            f'batch and size must be positive, the size one or two numbers, got --batch '
            f'{setting.batch} and --size {" ".join(map(str, setting.size))}; use for example '
            '--batch 2 --size 224'
        )
    kind = setting.model.partition('-')[0]
    if setting.mode == 'train' and setting.batch == 1 and KINDS[kind].batch_norm:
        raise UserError(
            f'the attention of {kind} normalises over the batch, which needs 2 images or more in '
            'training, got --batch 1; use --batch 2, or --mode forward'
        )
    if setting.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'--device {setting.device}: torch sees no GPU; use --device cpu')


def model_config(name: str, static: bool = False) -> dict[str, Any]:
    """The backbone's config of a name such as 'kw4x-r50'.

    Args:
        name: Kind and network.
        static: Whether to return the plain network's.

    Raises:
        UserError: An unknown name.
    """
    kind, _, network = name.partition('-')
    if kind not in KINDS or network not in NETWORKS:
        raise UserError(
            f'model {name!r} is unknown; choose KIND-NETWORK with KIND one of {", ".join(KINDS)} '
            f'and NETWORK one of {", ".join(NETWORKS)}'
        )
    backbones, dynamic = NETWORKS[network], KINDS[kind]
    if static:
        return dict(type=backbones.static, **backbones.options)
    backbone = getattr(backbones, dynamic.backbone)
    return dict(type=backbone, **backbones.options, **dynamic.options)


def variants(setting: Setting) -> list[str]:
    """Names of what is measured."""
    names = ['plain', 'reference', 'fast']
    if setting.cells != 'float32' and setting.mode == 'forward' and setting.has_warehouses:
        names.append(f'fast, cells in {setting.cells}')
    if setting.recompute and setting.mode == 'train' and setting.has_warehouses:
        names.append('fast, kernels recomputed')
    if setting.folded and setting.mode == 'forward':
        names += ['plain, folded', 'fast, folded']
    return names + (['plain, compiled', 'fast, compiled'] if setting.compile else [])


def build(setting: Setting, variant: str) -> nn.Module:
    """One variant's network, with the same random weights each time.

    Args:
        setting: What is measured.
        variant: One of :func:`variants`.
    """
    torch.manual_seed(0)
    cfg = model_config(setting.model, static=variant.startswith('plain'))
    if 'recomputed' in variant:
        cfg['assemble_checkpoint'] = True
    on_device = nullcontext() if setting.device == 'cpu' else torch.device(setting.device)
    with on_device:  # where first values are drawn faster
        model = build_backbone(cfg, setting.model)
    model = model.to(setting.device).train(setting.mode == 'train')
    if variant == 'reference' and hasattr(model, 'warehouses'):
        for warehouse in model.warehouses.values():  # as published, cell after cell in memory
            warehouse.cells.data = warehouse.cells.data.contiguous()
    if 'cells' in variant:
        model.warehouses.store_cells_as(DTYPES[setting.cells])
    if 'folded' in variant:
        optimize_for_inference(model)
    if setting.channels_last:
        model.to(memory_format=torch.channels_last)
    return torch.compile(model) if 'compiled' in variant else model


def has_openmmlab() -> bool:
    """Whether what builds our backbones is installed."""
    try:
        return all(find_spec(name) for name in ('mmengine', 'mmcv', 'mmpretrain'))
    except ImportError:  # someone keeps one from being imported
        return False


def build_backbone(cfg: dict[str, Any], name: str) -> nn.Module:
    """The backbone of a config, or its like where OpenMMLab is not installed.

    Args:
        cfg: From :func:`model_config`.
        name: Kind and network, e.g. 'kw4x-r50'.

    Raises:
        UserError: A kind that needs OpenMMLab.
    """
    if has_openmmlab():
        from mmengine.registry import MODELS

        return MODELS.build(cfg)
    kind, _, network = name.partition('-')
    if cfg['type'].startswith('Static'):
        return build_bare(network, 'static', {})
    if KINDS[kind].backbone == 'kw':
        options = {key: cfg[key] for key in ('budget', 'assemble_checkpoint') if key in cfg}
        return build_bare(network, 'kw', options)
    conv = dict(cfg['conv'])
    if conv.pop('type') != 'ODConv2d':
        raise UserError(f'{kind} needs OpenMMLab, which is not installed; use kw1x or odconv4x')
    return build_bare(network, 'odconv', conv)
