"""Every backbone and budget: shapes, gradients, finite values, independence of images."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

RESNETS = [
    dict(type='KWResNet', depth=depth, budget=budget)
    for depth, budgets in ((18, (1 / 4, 1 / 2, 1, 2, 4)), (50, (1 / 2, 1, 4)))
    for budget in budgets
]
DEEP = [  # what is deeper differs in its plan only
    dict(type='KWResNet', depth=depth, budget=1, base_channels=16, stem_channels=16)
    for depth in (34, 101)
]
MOBILENETS = [
    dict(type='KWMobileNetV2', widen_factor=width, budget=budget)
    for width in (1.0, 0.5)
    for budget in (1 / 2, 1, 4)
]
SMALL = dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64])
CONVNEXTS = [
    dict(type='KWConvNeXt', arch='tiny', budget=1),
    *(dict(type='KWConvNeXt', arch=SMALL, budget=budget) for budget in (1 / 2, 3 / 4, 4)),
    dict(
        type='KWConvNeXt',
        arch=SMALL,
        budget=1,
        split_stage3=True,
        linear_pw_conv=False,
        init='plain',
    ),
]
TRANSFORMERS = [
    *(
        dict(type='KWVisionTransformer', arch='deit-tiny', img_size=64, budget=budget)
        for budget in (1 / 2, 1)
    ),
    dict(type='KWVisionTransformer', arch='deit-tiny', img_size=64, budget=4, blocks_per_group=6),
]
RESNET, MOBILENET = (
    (dict(out_indices=(0, 1, 2, 3)), (16, 8, 4, 2)),
    (dict(out_indices=(1, 2, 4, 7)), (16, 8, 4, 2)),
)
OUTPUTS = {  # options, and sides of the feature maps
    'KWResNet': RESNET,
    'DynamicResNet': RESNET,
    'KWMobileNetV2': MOBILENET,
    'DynamicMobileNetV2': MOBILENET,
    'KWConvNeXt': (dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False), (16, 8, 4, 2)),
    'KWVisionTransformer': (dict(out_indices=[5, 11], out_type='featmap'), (4, 4)),
}
OTHERS = [
    dict(type='KWResNet', depth=18, budget=3 / 4, attention_norm='LN'),
    dict(
        type='KWResNet', depth=50, base_channels=16, stem_channels=16, deep_stem=True, avg_down=True
    ),
    dict(type='KWMobileNetV2', budget=2, nonlocal_basis_ratio=1 / 8),
    dict(type='KWMobileNetV2', budget=1, init='plain'),
    dict(type='KWResNet', depth=18, partition=False, attention_function='softmax', zero_cell=False),
    dict(type='KWResNet', depth=50, sharing_range='layer', attention_function='relu'),
    dict(
        type='KWMobileNetV2',
        budget=1,
        sharing_range='two_stages',
        start='all_to_all',
        temperature=0.5,
        max_attention=60,
    ),
]

DYNAMIC = [
    dict(type='DynamicResNet', depth=18, conv=dict(type=conv))
    for conv in ('DYConv2d', 'ODConv2d', 'CondConv2d')
] + [
    dict(type='DynamicResNet', depth=18, conv=dict(type='DCDConv2d', init='published')),
    dict(type='DynamicResNet', depth=50, conv=dict(type='ODConv2d', num_kernels=1)),
    dict(type='DynamicResNet', depth=50, conv=dict(type='DYConv2d', num_kernels=4)),
    dict(type='DynamicResNet', depth=50, conv=dict(type='CondConv2d', num_kernels=3)),
    dict(
        type='DynamicResNet',
        depth=18,
        conv=dict(type='FDConv2d', kernel_num=64),
        base_channels=32,
        stem_channels=32,
    ),
    dict(type='DynamicMobileNetV2', widen_factor=0.5, conv=dict(type='FDConv2d', kernel_num=48)),
    dict(type='DynamicMobileNetV2', widen_factor=1.0, conv=dict(type='ODConv2d', num_kernels=4)),
    dict(type='DynamicMobileNetV2', widen_factor=0.5, conv=dict(type='DYConv2d', num_kernels=4)),
    dict(type='DynamicMobileNetV2', widen_factor=0.5, conv=dict(type='CondConv2d', num_kernels=8)),
    dict(type='DynamicMobileNetV2', widen_factor=0.5, conv=dict(type='DCDConv2d', pool_size=1)),
]


def name(cfg):
    return '-'.join(
        str(part)
        for value in cfg.values()
        for part in (value.values() if isinstance(value, dict) else [value])
    )


@pytest.fixture(
    params=RESNETS + DEEP + MOBILENETS + CONVNEXTS + TRANSFORMERS + OTHERS + DYNAMIC,
    ids=name,
    scope='module',
)
def backbone(request):
    options, sides = OUTPUTS[request.param['type']]
    model = MODELS.build(dict(request.param, **options))
    model.init_weights()
    return model, sides


def test_shapes_and_gradients(backbone):
    backbone, sides = backbone
    backbone.train()
    outputs = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(out.shape[-2:]) for out in outputs] == [(side, side) for side in sides]
    assert all(out.isfinite().all() for out in outputs)
    sum(out.square().mean() for out in outputs).backward()
    without = [key for key, p in backbone.named_parameters() if p.grad is None]
    assert not without, without
    broken = [key for key, p in backbone.named_parameters() if not p.grad.isfinite().all()]
    assert not broken, broken


@torch.no_grad()
def test_images_are_independent_in_eval_mode(backbone):
    backbone, _ = backbone
    backbone.eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # untrained statistics would let the signal die
            module.train()
            module.momentum = None
    backbone(torch.randn(2, 3, 64, 64))
    backbone.eval()
    x = torch.randn(2, 3, 64, 64)
    together = backbone(x)
    for image in range(2):
        for one, all_ in zip(backbone(x[image : image + 1]), together):
            torch.testing.assert_close(
                one[0], all_[image], rtol=1e-3, atol=1e-4 * float(all_.abs().max())
            )
