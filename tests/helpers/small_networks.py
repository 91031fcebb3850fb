"""Small networks of every family, conditioned so that float32 rounding stays small untrained."""

import torch
from mmengine.registry import MODELS
from torch import nn

SMALL = dict(stem_channels=16, base_channels=16, out_indices=(0, 1, 2, 3))
SHORT = dict(
    depth=18,
    budget=1 / 2,
    stem_channels=16,
    base_channels=16,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(0, 1),
)
FAMILIES = {
    'resnet18': dict(type='KWResNet', depth=18, budget=1 / 4, **SMALL),
    'resnet50': dict(type='KWResNet', depth=50, budget=1 / 2, **SMALL),
    'mobilenet': dict(
        type='KWMobileNetV2', widen_factor=0.5, budget=1 / 2, out_indices=(1, 2, 4, 7)
    ),
    'convnext': dict(
        type='KWConvNeXt',
        arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 48, 64]),
        budget=1,
        out_indices=[0, 1, 2, 3],
        gap_before_final_norm=False,
    ),
    'odconv': dict(
        type='DynamicResNet', depth=18, conv=dict(type='ODConv2d', num_kernels=4), **SMALL
    ),
    'odconv, depthwise': dict(
        type='DynamicMobileNetV2', widen_factor=0.5, conv=dict(type='ODConv2d', num_kernels=2)
    ),
    'dyconv': dict(
        type='DynamicResNet', depth=18, conv=dict(type='DYConv2d', num_kernels=4), **SMALL
    ),
}
OTHERS = {
    'fdconv': dict(
        type='DynamicResNet', depth=18, conv=dict(type='FDConv2d', kernel_num=16), **SMALL
    ),
    'condconv': dict(
        type='DynamicResNet', depth=18, conv=dict(type='CondConv2d', num_kernels=3), **SMALL
    ),
    'dcd': dict(
        type='DynamicResNet', depth=50, conv=dict(type='DCDConv2d', init='published'), **SMALL
    ),
    'weightnet': dict(
        type='StaticResNet', depth=18, conv_cfg=dict(type='WeightNetConv2d'), **SMALL
    ),
    'ablations': dict(
        type='KWResNet',
        partition=False,
        zero_cell=False,
        temperature=0.5,
        attention_function='softmax',
        attention_norm='LN',
        **{**SHORT, 'budget': 2},
    ),
}


@torch.no_grad()
def build(cfg, **options):
    """A network in eval mode, without gradients, from a config."""
    network = MODELS.build({**cfg, **options}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
            module.weight.fill_(0.2)
            module.bias.fill_(0.5)
    network(torch.randn(4, 3, 96, 96))
    return network.eval().requires_grad_(False)
