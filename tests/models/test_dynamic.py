"""Backbones with the compared dynamic convolutions: sizes, freezing, temperature, loading."""

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2, ResNet
from recomputed import check_same_gradients
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kw_mm.compared import CondConv2d, DYConv2d, DynamicConv2d
from kw_mm.errors import CheckpointError
from kw_mm.models import (
    DynamicLinearClsHead,
    DynamicMobileNetV2,
    DynamicResNet,
    KWResNet,
    StaticMobileNetV2,
    StaticResNet,
)

OD, DY = dict(type='ODConv2d', num_kernels=4), dict(type='DYConv2d', num_kernels=4)
FD = dict(type='FDConv2d', kernel_num=16)
COND, DCD = dict(type='CondConv2d', num_kernels=8), dict(type='DCDConv2d')
COND_HEAD, DCD_HEAD = dict(type='CondLinear', num_kernels=8), dict(type='DCDLinear')
SMALL = dict(base_channels=8, stem_channels=8)


def dynamic_layers(backbone):
    return {
        name: module
        for name, module in backbone.named_modules()
        if isinstance(module, DynamicConv2d)
    }


def classifier(*args, **kwargs):
    return DynamicLinearClsHead(*args, loss=nn.CrossEntropyLoss(), **kwargs)


def in_millions(backbone, head):
    return round(
        sum(p.numel() for module in (backbone, head) for p in module.parameters()) / 1e6, 2
    )


@pytest.mark.parametrize(
    'depth, conv, linear, millions',
    [
        (18, DY, None, 45.47),
        (18, OD, None, 44.90),
        (18, dict(OD, num_kernels=1), None, 11.94),
        (18, COND, COND_HEAD, 81.35),
        (18, DCD, DCD_HEAD, 14.70),
        (50, DY, None, 100.88),
        (50, OD, None, 90.67),
        (50, dict(OD, num_kernels=1), None, 28.64),
        (101, dict(OD, num_kernels=1), None, 50.82),
        (101, dict(OD, num_kernels=2), None, 90.44),
    ],
)
def test_published_resnet_sizes(depth, conv, linear, millions):
    head = classifier(1000, 512 if depth < 50 else 2048, linear=linear)
    assert in_millions(DynamicResNet(depth, conv), head) == millions


@pytest.mark.parametrize(
    'width, kernels, millions',
    [
        (1.0, 1, 4.94),
        (1.0, 4, 11.51),
        (0.75, 1, 3.51),
        (0.75, 4, 7.50),
        (0.5, 1, 2.43),
        (0.5, 4, 4.44),
    ],
)
def test_published_mobilenet_sizes(width, kernels, millions):
    backbone = DynamicMobileNetV2(width, dict(OD, num_kernels=kernels))
    assert in_millions(backbone, classifier(1000, 1280)) == millions


def test_which_layers_are_dynamic():
    every = {
        name for name, module in ResNet(50).named_modules() if isinstance(module, nn.Conv2d)
    } - {'conv1'}
    downsampling = {name for name in every if 'downsample' in name}
    assert set(dynamic_layers(DynamicResNet(50, DY))) == every
    assert set(dynamic_layers(DynamicResNet(50, OD))) == every - downsampling
    assert set(dynamic_layers(DynamicResNet(18, DCD))) == {
        f'layer{s}.{b}.conv{c}' for s in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)
    }
    assert set(dynamic_layers(DynamicResNet(18, COND))) == {
        f'{block}.conv{c}' for block in ('layer3.1', 'layer4.0', 'layer4.1') for c in (1, 2)
    }
    assert len(dynamic_layers(DynamicMobileNetV2(1.0, OD))) == 51
    blocks = {name.rsplit('.conv.', 1)[0] for name in dynamic_layers(DynamicMobileNetV2(1.0, COND))}
    assert blocks == {'layer5.1', 'layer5.2', 'layer6.0', 'layer6.1', 'layer6.2', 'layer7.0'}
    assert all(layer.groups == 1 for layer in dynamic_layers(DynamicMobileNetV2(0.5, DCD)).values())
    chosen = ['layer4.1.conv2', 'layer4.1.conv1']
    assert set(dynamic_layers(DynamicResNet(18, OD, layers=chosen))) == set(chosen)


@pytest.mark.parametrize(
    'make, error, message',
    [
        (lambda: DynamicResNet(20, OD), ValueError, 'depth=20'),
        (
            lambda: DynamicResNet(18, 'ODConv2d'),
            TypeError,
            r"conv must be a config such as dict\(type='ODConv2d'.*, got conv='ODConv2d'",
        ),
        (lambda: DynamicMobileNetV2(), TypeError, 'conv=None'),
        (
            lambda: DynamicResNet(18, dict(type='OmniConv')),
            ValueError,
            "conv type must be one of .*ODConv2d.*, got 'OmniConv'",
        ),
        (lambda: DynamicResNet(18, dict(OD, num_kernels=0)), ValueError, 'num_kernels=0'),
        (
            lambda: DynamicResNet(18, OD, layers=['conv1']),
            ValueError,
            r"\['conv1'\].*such as layer1.0.conv1",
        ),
        (lambda: DynamicResNet(18, OD, layers=[]), ValueError, 'nothing'),
        (lambda: DynamicResNet(18, OD, temperature=0), ValueError, 'temperature=0'),
        (
            lambda: DynamicResNet(18, COND, temperature=30),
            ValueError,
            'DynamicResNet have no temperature',
        ),
        (
            lambda: classifier(10, 8, linear=dict(type='ODLinear')),
            ValueError,
            "linear.type must be one of .*, got linear.type='ODLinear'",
        ),
    ],
)
def test_bad_options_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    'make', [lambda **o: DynamicResNet(18, OD, **o), lambda **o: DynamicMobileNetV2(0.5, OD, **o)]
)
def test_temperature_reaches_every_layer(make):
    backbone = make(temperature=30)
    assert float(backbone.temperature) == 30
    backbone.set_temperature(2.5)
    assert {float(layer.temperature) for layer in dynamic_layers(backbone).values()} == {2.5}
    assert DynamicResNet(18, DCD).temperature is None


@pytest.mark.parametrize(
    'make', [lambda **o: DynamicResNet(18, OD, **o), lambda **o: DynamicMobileNetV2(0.5, OD, **o)]
)
def test_stages_are_frozen_from_construction_on(make):
    backbone = make(frozen_stages=2)
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    own = {
        key
        for key, _ in backbone.named_parameters()
        if key.startswith(('conv1.', 'bn1.', 'layer1.', 'layer2.'))
    }
    assert frozen == own and any('layer2' in key and 'attention' in key for key in frozen)
    backbone.train()
    assert not backbone.layer2.training and not any(m.training for m in backbone.layer2.modules())
    assert backbone.layer3.training


def test_norm_eval_trains_one_image():
    with pytest.raises(ValueError, match='ODConv attention.*norm_eval=True'):
        DynamicResNet(18, OD).train()(torch.randn(1, 3, 64, 64))
    DynamicResNet(18, OD, norm_eval=True).train()(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize('conv', [OD, DY, COND, DCD], ids=lambda conv: conv['type'])
def test_init_weights_leaves_dynamic_layers_alone(conv):
    backbone = DynamicResNet(18, conv)
    before = {
        f'{name}.weight': layer.weight.detach().clone()
        for name, layer in dynamic_layers(backbone).items()
    }
    backbone.init_weights()
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize('conv', [OD, COND, FD], ids=lambda conv: conv['type'])
def test_recomputed_stages_give_the_same_gradients(conv):
    plain, recomputed = (
        DynamicResNet(18, conv, norm_eval=True, with_cp=with_cp, **SMALL)
        for with_cp in (False, True)
    )
    check_same_gradients(plain, recomputed)


def test_condconv_blocks_share_a_routing():
    layers = dynamic_layers(DynamicResNet(50, COND, **SMALL))
    own = [
        name
        for name, layer in layers.items()
        if isinstance(layer, CondConv2d) and layer.attention is not None
    ]
    assert own == ['layer4.0.conv1', 'layer4.1.conv1', 'layer4.2.conv1'] and len(layers) == 9


# --- loading
def trained(network):
    """A network with statistics of its own, so that no tensor is left at its default."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):  # or untrained statistics make DCD's products overflow
            module.momentum = None
    network(torch.randn(4, 3, 64, 64))
    network.eval()
    return network


@pytest.mark.parametrize(
    'plain, make',
    [
        (lambda: ResNet(18, zero_init_residual=False), lambda: DynamicResNet(18, DY)),
        (lambda: ResNet(50, zero_init_residual=False), lambda: DynamicResNet(50, DY)),
        (lambda: MobileNetV2(), lambda: DynamicMobileNetV2(1.0, DY)),
    ],
)
@pytest.mark.parametrize('temperature', [1, 30])
def test_plain_weights_make_a_dyconv_network_the_plain_one(plain, make, temperature):
    plain, backbone = trained(plain()), make()
    backbone.set_temperature(temperature)
    backbone.load_state_dict({**plain.state_dict(), 'fc.weight': torch.zeros(1)})
    assert float(backbone.temperature) == temperature
    x = torch.randn(2, 3, 64, 64)
    expected = plain(x)[0]
    torch.testing.assert_close(
        backbone.eval()(x)[0], expected, rtol=0, atol=1e-4 * float(expected.detach().abs().max())
    )


@pytest.mark.parametrize('conv', [OD, DY, COND, DCD], ids=lambda conv: conv['type'])
def test_own_layout(conv, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    source, target = (DynamicResNet(18, conv, **SMALL) for _ in range(2))
    trained(source)
    if conv in (OD, DY):
        source.set_temperature(7)
    target.load_state_dict({f'backbone.{key}': value for key, value in source.state_dict().items()})
    assert 'kw_mm layout' in lines[-1]
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(source(x)[0], target.eval()(x)[0])


@pytest.mark.parametrize(
    'make, source, message',
    [
        (
            lambda: DynamicResNet(18, OD, **SMALL),
            lambda: DynamicResNet(18, dict(OD, num_kernels=1), **SMALL),
            'ODConv2d of 1 kernels, but this DynamicResNet is .* ODConv2d of 4 kernels',
        ),
        (
            lambda: DynamicResNet(18, OD, **SMALL),
            lambda: DynamicResNet(18, DY, **SMALL),
            'DYConv2d of 4 .*ODConv2d of 4',
        ),
        (
            lambda: DynamicResNet(18, COND, **SMALL),
            lambda: DynamicResNet(18, DCD, **SMALL),
            'with DCDConv2d.*CondConv2d of 8',
        ),
        (
            lambda: DynamicResNet(18, OD),
            lambda: KWResNet(18),
            'ResNet-18 in the kw_mm layout with .* M cell values',
        ),
        (
            lambda: StaticResNet(18),
            lambda: KWResNet(18),
            'ResNet-18 in the kw_mm layout with .* M cell values',
        ),
        (
            lambda: KWResNet(18),
            lambda: DynamicResNet(18, OD),
            'ODConv2d of 4 kernels, but this KWResNet',
        ),
        (
            lambda: StaticResNet(18),
            lambda: DynamicResNet(18, OD),
            'ODConv2d of 4 kernels, but this StaticResNet',
        ),
        (lambda: DynamicResNet(18, DY), lambda: ResNet(34), 'ResNet-34 in the plain static layout'),
    ],
)
def test_another_network_is_refused(make, source, message):
    with pytest.raises(CheckpointError, match=message):
        make().load_state_dict(source().state_dict(), strict=False)


def test_any_registered_convolution_can_be_named():
    backbone = MODELS.build(
        dict(type='DynamicResNet', depth=18, conv=dict(type=DYConv2d, num_kernels=2))
    )
    assert {layer.num_kernels for layer in dynamic_layers(backbone).values()} == {2}
    static = StaticMobileNetV2(0.5, conv_cfg=dict(type='DYConv2d', num_kernels=2))
    assert isinstance(static.conv1.conv, DYConv2d)
