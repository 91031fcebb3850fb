"""One small network for each row of docs/methods.md: every method on every backbone it has."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from torch import nn

from kw_mm.compared import (
    CGCConv2d,
    CondConv2d,
    CondLinear,
    DCDConv2d,
    DCDLinear,
    DYConv1d,
    DYConv2d,
    FDConv2d,
    ODConv1d,
    ODConv2d,
    WeightNetConv2d,
)
from kw_mm.warehouse import apply_kernel_warehouse

WIDTH = dict(stem_channels=16, base_channels=16)
STAGES = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
RESNET = dict(depth=18, **WIDTH, **STAGES)
BACKBONES = {
    'ResNet': RESNET,
    'MobileNetV2': dict(widen_factor=0.5, out_indices=(1, 2, 4, 7)),
    'ConvNeXt': dict(
        arch=dict(depths=[1, 1, 1, 1], channels=[16, 32, 48, 64]),
        out_indices=[0, 1, 2, 3],
        gap_before_final_norm=False,
    ),
    'ViT': dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32,
        out_indices=[0, 1],
        out_type='featmap',
    ),
}
TYPES = {name: name for name in BACKBONES} | {'ViT': 'VisionTransformer'}
BUDGETS = {'KW 1x': 1, 'KW 2x': 2, 'KW 4x': 4, 'KW below 1': 1 / 2}
CONVS = {
    'ODConv': dict(type='ODConv2d', num_kernels=4),
    'DY-Conv': dict(type='DYConv2d', num_kernels=4),
    'CondConv': dict(type='CondConv2d', num_kernels=4),
    'DCD': dict(type='DCDConv2d'),
    'FDConv': dict(type='FDConv2d', kernel_num=16),
}
GATES = {'CGC': dict(type='CGCConv2d'), 'WeightNet': dict(type='WeightNetConv2d')}
# those of two dimensions, as layers
LAYERS = {
    ODConv2d: {},
    DYConv2d: {},
    CondConv2d: {},
    DCDConv2d: dict(init='published'),
    FDConv2d: dict(kernel_num=8, min_channels=1, init='published'),
    CGCConv2d: {},
    WeightNetConv2d: {},
}


class Network(NamedTuple):
    """How to build a row's network, its plain twin if it is an OpenMMLab backbone, its input."""

    build: Callable[..., nn.Module]
    plain: Callable[..., nn.Module] | None = None
    shape: tuple[int, ...] = (3, 32, 32)


def from_config(**cfg):
    return lambda **options: MODELS.build({**cfg, **options})


def kernel_warehouse(kind, budget):
    common = BACKBONES[kind]
    if kind == 'ResNet' and budget > 1:
        common = dict(common, max_attention=50)
    return Network(
        from_config(type=f'KW{TYPES[kind]}', budget=budget, attention_norm='LN', **common),
        from_config(type=f'Static{TYPES[kind]}', **BACKBONES[kind]),
    )


def dynamic(kind, conv):
    if conv['type'] == 'CondConv2d' and kind == 'ResNet':  # the last of a whole network's blocks
        conv, more = dict(conv), dict(layers=['layer2.1.conv1', 'layer2.1.conv2'])
    else:
        more = {}
    if conv['type'] == 'DCDConv2d' and kind == 'MobileNetV2':
        conv = dict(conv, pool_size=1)
    if conv['type'] == 'FDConv2d':
        conv = dict(conv, min_channels=8)
    return Network(
        from_config(type=f'Dynamic{kind}', conv=conv, **BACKBONES[kind], **more),
        from_config(type=f'Static{kind}', **BACKBONES[kind]),
    )


def in_a_row(*layers, names=()):
    """Layers and ReLUs; those that are named are put into a warehouse."""

    def build():
        net = nn.Sequential(*(module for layer in layers for module in (layer(), nn.ReLU())))
        plan = {'all': list(names)}
        return apply_kernel_warehouse(net, plan, attention_norm='LN') if names else net

    return build


def two(kind, *channels, **options):
    first, second = zip(channels, channels[1:])
    return [lambda: kind(*first, **options), lambda: kind(*second, **options)]


TWO = ('0', '2')
THREE = dict(kernel_size=3, padding=1)
NETWORKS: dict[str, Network] = {
    **{
        f'{name}, {kind}': kernel_warehouse(kind, budget)
        for name, budget in BUDGETS.items()
        for kind in BACKBONES
    },
    'KWConv2d': Network(in_a_row(*two(nn.Conv2d, 8, 16, 8, **THREE), names=TWO), shape=(8, 9, 7)),
    'KWConv1d': Network(in_a_row(*two(nn.Conv1d, 8, 16, 8, **THREE), names=TWO), shape=(8, 12)),
    'KWConv3d': Network(
        in_a_row(*two(nn.Conv3d, 8, 16, 8, **THREE), names=TWO), shape=(8, 4, 6, 5)
    ),
    'KWLinear': Network(in_a_row(*two(nn.Linear, 8, 16, 8), names=TWO), shape=(5, 8)),
    **{
        f'{name}, {kind}': dynamic(kind, conv)
        for name, conv in CONVS.items()
        for kind in ('ResNet', 'MobileNetV2')
    },
    **{
        f'{conv.__name__}': Network(
            in_a_row(*two(conv, 16, 32, 16, **THREE, **more)), shape=(16, 9, 7)
        )
        for conv, more in LAYERS.items()
    },
    'ODConv1d': Network(in_a_row(*two(ODConv1d, 8, 16, 8, **THREE)), shape=(8, 12)),
    'DYConv1d': Network(in_a_row(*two(DYConv1d, 8, 16, 8, **THREE)), shape=(8, 12)),
    'CondLinear': Network(in_a_row(*two(CondLinear, 8, 16, 8)), shape=(8,)),
    'DCDLinear': Network(in_a_row(*two(DCDLinear, 8, 16, 8)), shape=(8,)),
    **{
        f'{name}, ResNet': Network(from_config(type='StaticResNet', conv_cfg=conv, **RESNET))
        for name, conv in GATES.items()
    },
    **{
        f'{name.upper()}, ResNet': Network(
            from_config(type='AttentionResNet', attention=name, **RESNET)
        )
        for name in ('se', 'cbam', 'eca')
    },
}

IN_BACKBONES = [name for name in NETWORKS if ', ' in name]
WITH_PLAIN_START = [name for name in IN_BACKBONES if NETWORKS[name].plain and 'below 1' not in name]
ON_RESNET = [name for name in NETWORKS if name.endswith(', ResNet')]
AS_LAYERS = [name for name in NETWORKS if ', ' not in name]
# context gating of a stem of 7 x 7 takes an exporter many minutes
EXPORTED = [name for name in ON_RESNET if not name.startswith(('CGC', 'KW 4x'))]
# Columns of docs/methods.md that one test of tests/models/test_methods.py holds, and its rows.
CHECKED = {
    'gradients': list(NETWORKS),
    'AMP': list(NETWORKS),
    'compile': [*AS_LAYERS, *ON_RESNET, 'KW 1x, MobileNetV2', 'KW 1x, ViT'],
    # mmpretrain's vision transformer computes with sizes, which no symbolic trace has
    'torch.fx': [name for name in NETWORKS if 'ViT' not in name],
    'ONNX': [*AS_LAYERS, *EXPORTED, 'KW 1x, ViT'],
    'plain start': WITH_PLAIN_START,
    'freezing': IN_BACKBONES,
    'finite as built': list(NETWORKS),
}


def inputs(network: Network, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, *network.shape, dtype=dtype)


def outputs(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Feature maps, of networks that return one or several."""
    found = module(x)
    return [found] if isinstance(found, torch.Tensor) else list(found)
