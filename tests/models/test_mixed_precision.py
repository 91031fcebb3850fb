"""Autocast in fp16 and bf16: outputs as exact as the dtype allows, and finite gradients.

The networks are at the temperature of a training's beginning; at random weights and temperature 0
they amplify any rounding, float32's too.
"""

import copy

import pytest
import torch
from half import HALF
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from kw_mm.compared import DYConv2d, FDConv2d, ODConv2d
from kw_mm.warehouse import apply_kernel_warehouse

RESNET = dict(depth=18, base_channels=16, stem_channels=16)
VIT = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
BACKBONES = [
    dict(type='KWResNet', **RESNET),
    dict(type='KWResNet', **RESNET, attention_function='softmax', start='all_to_all'),
    dict(type='KWResNet', **dict(RESNET, depth=50), budget=1 / 2),  # reduced attention
    dict(type='KWMobileNetV2', widen_factor=0.5),
    dict(type='KWConvNeXt', arch=dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64])),
    dict(type='KWVisionTransformer', arch=VIT, img_size=32),
    *[
        dict(type='DynamicResNet', **RESNET, conv=dict(type=conv))
        for conv in ('DYConv2d', 'ODConv2d', 'CondConv2d', 'FDConv2d')
    ],
    dict(type='DynamicResNet', **RESNET, conv=dict(type='DCDConv2d', init='published')),
    *[
        dict(type='StaticResNet', **RESNET, conv_cfg=dict(type=conv))
        for conv in ('CGCConv2d', 'WeightNetConv2d')
    ],
    *[
        dict(type='AttentionResNet', **RESNET, attention=attention)
        for attention in ('se', 'cbam', 'eca')
    ],
]


def images(n=4):
    """Images of different contrasts and colours."""
    return torch.randn(n, 3, 32, 32) * (0.5 + torch.rand(n, 1, 1, 1)) + 2 * torch.randn(n, 3, 1, 1)


def name(cfg):
    options = (
        cfg.get('conv')
        or cfg.get('conv_cfg')
        or cfg.get('attention_function')
        or cfg.get('attention')
        or ''
    )
    kind = options['type'] if isinstance(options, dict) else options
    return f'{cfg["type"]}{cfg.get("depth", "")}-{kind}'


def build(cfg):
    """A network whose batch norms have seen data."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg)).train()
    if getattr(model, 'temperature', None) is not None:
        model.set_temperature(0.9 if 'KW' in cfg['type'] else 30)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    model(images(16))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('cfg', BACKBONES, ids=name)
def test_outputs_are_as_exact_as_the_dtype_lets_them_be(cfg, dtype):
    model, x = build(cfg), images()
    exact = model(x)[-1]
    with torch.autocast('cpu', dtype):
        found = model(x)[-1].float()
    rounded = copy.deepcopy(model)
    for p in rounded.parameters():
        p.copy_(p.to(dtype).float())
    inherent = (
        rounded(x.to(dtype).float())[-1] - exact
    ).norm() / exact.norm()  # of rounding only weights and images
    error = (found - exact).norm() / exact.norm()
    assert error <= 4 * inherent and error < 130 * torch.finfo(dtype).eps, (
        float(error),
        float(inherent),
    )


def train(model, dtype, steps):
    """Train on ordinary and extreme inputs in turn; whether each step had finite gradients."""
    x = images()
    inputs = [
        x,
        torch.zeros_like(x),
        torch.full_like(x, 2.5),
        1e4 * torch.randn_like(x).clamp(-3, 3),
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler('cpu', init_scale=16.0) if dtype == torch.float16 else None
    finite = []
    for step in range(steps):
        optimizer.zero_grad()
        with torch.autocast('cpu', dtype):
            outputs = model(inputs[step % len(inputs)])
        loss = outputs[-1].float().square().mean()
        assert loss.isfinite(), step
        (scaler.scale(loss) if scaler else loss).backward()
        finite.append(
            all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
    assert all(value.isfinite().all() for value in model.state_dict().values())
    return finite


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize(
    'cfg', [cfg for cfg in BACKBONES if cfg['type'] != 'KWMobileNetV2'], ids=name
)  # minutes
def test_gradients_are_finite(cfg, dtype):
    assert all(train(build(cfg).train(), dtype, 4))


@pytest.mark.slow
@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('cfg', BACKBONES, ids=name)
def test_gradients_stay_finite_over_200_steps(cfg, dtype):
    """WeightNet's attention has no norm: images scaled by 1e4 overflow fp16 now and then.

    That is what the loss scaler is for.
    """
    finite = train(build(cfg).train(), dtype, 200)
    overflowing = cfg.get('conv_cfg') == dict(type='WeightNetConv2d') and dtype == torch.float16
    assert finite.count(False) <= (20 if overflowing else 0)


@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_attention_is_in_full_precision(dtype):
    """Weights of cells follow from averages in float32: batch norm magnifies small differences."""
    torch.manual_seed(0)
    network = apply_kernel_warehouse(
        torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3)), {'all': ['0']}, init='published'
    ).train()
    x = (1000 + 0.01 * torch.randn(8, 32, 16, 16)).to(dtype)
    seen = []
    network[0].attention.register_forward_hook(
        lambda module, inputs, alpha: seen.append((inputs[0], alpha))
    )
    with torch.autocast('cpu', dtype):
        network(x)
    pooled, alpha = seen[0]
    assert pooled.dtype == alpha.dtype == torch.float32
    torch.testing.assert_close(pooled, x.float().mean(dim=(2, 3)), rtol=1e-6, atol=0)
    network[0].attention(pooled, network.warehouses.temperature)
    assert torch.equal(alpha, seen[1][1])


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('layer', [DYConv2d, FDConv2d, ODConv2d])
def test_large_features_do_not_overflow_the_compared_attentions(layer, dtype):
    torch.manual_seed(0)
    conv = layer(256, 256, 1).train()
    x = torch.full((4, 256, 4, 4), 1e4, dtype=dtype).mul_(torch.rand(4, 1, 1, 1)).requires_grad_()
    with torch.autocast('cpu', dtype):
        out = conv(x)
    (out.float() * 1e-6).sum().backward()
    assert out.isfinite().all() and all(p.grad.isfinite().all() for p in conv.parameters())
