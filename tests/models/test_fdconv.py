"""Networks with FDConv: the plain start, which layers are dynamic, freezing, files, conv_cfg."""

import pytest
import torch
from golden_fdconv import meta, state_dict
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kw_mm.checkpoints.architectures import recognise
from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.layouts import layout_of
from kw_mm.compared import FDConv2d
from kw_mm.errors import CheckpointError
from kw_mm.models import (
    DynamicMobileNetV2,
    DynamicResNet,
    KWResNet,
    StaticMobileNetV2,
    StaticResNet,
)
from kw_mm.ops.branch import AttentionBranch

CONV = dict(type='FDConv2d', kernel_num=64)
SMALL = dict(base_channels=24, stem_channels=24)


def fd_layers(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, FDConv2d)}


def trained(network):
    """A network with statistics of its own, in float64."""
    network.double().train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64, dtype=torch.double))
    return network.eval()


@pytest.mark.parametrize(
    'plain, dynamic',
    [
        (lambda: StaticResNet(18, **SMALL), lambda: DynamicResNet(18, CONV, **SMALL)),
        (lambda: StaticResNet(50), lambda: DynamicResNet(50, CONV)),
        (
            lambda: StaticResNet(18, **SMALL),
            lambda: DynamicResNet(18, dict(CONV, attention_norm='LN', kernel_num=48), **SMALL),
        ),
        (lambda: StaticMobileNetV2(), lambda: DynamicMobileNetV2(1.0, CONV)),
        (
            lambda: StaticResNet(18, **SMALL),
            lambda: StaticResNet(18, conv_cfg=dict(type='FDConv2d'), **SMALL),
        ),
    ],
    ids=['r18', 'r50', 'r18, LN', 'mbv2', 'conv_cfg'],
)
@torch.no_grad()
def test_plain_weights_make_it_the_plain_network(plain, dynamic):
    plain, dynamic = trained(plain()), dynamic().double().eval()
    for branch in dynamic.modules():
        if isinstance(branch, AttentionBranch):  # what was learned before does not matter
            for parameter in branch.parameters():
                parameter.add_(0.1)
    dynamic.load_state_dict({**plain.state_dict(), 'fc.weight': torch.zeros(1)})
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    expected = plain(x)[0]
    torch.testing.assert_close(
        dynamic(x)[0], expected, rtol=0, atol=1e-12 * float(expected.abs().max())
    )


def test_openmmlabs_initialisation_leaves_the_start_alone():
    backbone = DynamicResNet(18, CONV, **SMALL)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.init_weights()
    for name, layer in fd_layers(backbone).items():
        for key, value in layer.state_dict().items():
            if not key.startswith('attention.norm'):
                assert torch.equal(value, before[f'{name}.{key}']), (name, key)


# --- which layers
def test_which_layers_of_mobilenet_are_dynamic_and_the_log_names_the_others(monkeypatch):
    lines = []
    monkeypatch.setattr('kw_mm.models.dynamic.print_log', lambda line, **kw: lines.append(line))
    backbone = DynamicMobileNetV2(1.0, CONV)
    dynamic = fd_layers(backbone)
    plain = {
        name: module
        for name, module in backbone.named_modules()
        if type(module) is nn.Conv2d and name != 'conv1.conv'
    }
    assert len(dynamic) == 51 - len(plain) and not any(
        layer.why_plain for layer in dynamic.values()
    )
    for module in plain.values():
        assert module.groups > 1 or min(module.in_channels, module.out_channels) <= 16
    assert all(min(m.in_channels, m.out_channels) > 16 and m.groups == 1 for m in dynamic.values())
    text = ' '.join(lines)
    assert all(f'{name},' in text or f'{name} stay plain' in text for name in plain)
    assert not any(f'{name},' in text for name in dynamic)


def test_a_network_of_small_layers_is_refused():
    with pytest.raises(ValueError, match='would all stay plain as FDConv2d'):
        DynamicResNet(18, CONV, base_channels=8, stem_channels=8, layers=['layer1.0.conv1'])


# --- frozen stages
OD = dict(type='ODConv2d', num_kernels=2)


@pytest.mark.parametrize(
    'make, default',
    [
        (lambda **o: DynamicResNet(18, CONV, frozen_stages=2, **SMALL, **o), True),
        (lambda **o: DynamicMobileNetV2(0.5, CONV, frozen_stages=4, **o), True),
        (lambda **o: DynamicResNet(18, OD, frozen_stages=2, **SMALL, **o), False),
        (lambda **o: KWResNet(18, frozen_stages=2, **SMALL, **o), False),
        (
            lambda **o: KWResNet(18, frozen_stages=2, freeze_warehouses='strict', **SMALL, **o),
            False,
        ),
    ],
    ids=['fdconv r18', 'fdconv mbv2', 'odconv', 'kw', 'kw, strict'],
)
def test_attention_in_frozen_stages(make, default):
    """A matter of one option for all methods; nothing else of a frozen stage trains by it."""
    networks = {wanted: make(train_attention_in_frozen_stages=wanted) for wanted in (True, False)}
    trains = {}
    for wanted, network in networks.items():
        for _ in range(2):  # OpenMMLab freezes again whenever it switches to training
            trains[wanted] = {key for key, p in network.named_parameters() if p.requires_grad}
            network.train()
    attention = {
        f'{name}.{key}'
        for name, module in networks[True].named_modules()
        if isinstance(module, AttentionBranch)
        for key, _ in module.named_parameters()
    }
    gained = trains[True] - trains[False]
    assert gained and gained <= attention <= trains[True]
    assert all(key.startswith(('layer1.', 'layer2.', 'layer3.', 'layer4.')) for key in gained)
    stage = networks[True].layer2 if hasattr(networks[True], 'layer2') else None
    assert stage is not None and not any(m.training for m in stage.modules())
    built = {key for key, p in make().named_parameters() if p.requires_grad}
    assert built == trains[default]


def test_what_the_user_froze_stays_frozen():
    backbone = DynamicResNet(18, CONV, frozen_stages=1, **SMALL)
    backbone.layer1[0].conv1.attention.requires_grad_(False)
    backbone.train()
    assert not any(p.requires_grad for p in backbone.layer1[0].conv1.attention.parameters())
    assert all(p.requires_grad for p in backbone.layer1[0].conv2.attention.parameters())


def test_attention_of_frozen_stages_gets_gradients():
    backbone = DynamicResNet(18, CONV, frozen_stages=4, norm_eval=True, **SMALL).train()
    backbone(torch.randn(2, 3, 32, 32))[0].square().mean().backward()
    for name, layer in fd_layers(backbone).items():
        assert layer.dft_weight.grad is None, name
        assert layer.local_attention.conv.weight.grad.abs().sum() > 0, name


def test_a_flag_that_is_none_is_refused():
    for make in (
        lambda: KWResNet(18, train_attention_in_frozen_stages='no', **SMALL),
        lambda: DynamicResNet(18, CONV, train_attention_in_frozen_stages='no', **SMALL),
    ):
        with pytest.raises(ValueError, match='train_attention_in_frozen_stages must be True or'):
            make()


# --- files
@pytest.fixture(scope='module')
def published():
    return state_dict(meta('fdconv_resnet50')['state_dict'])


def test_a_published_file_is_recognised_and_every_key_used(published, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    assert layout_of(published) == 'fdconv'
    assert recognise(published).conv == CONV
    backbone = DynamicResNet(50, CONV)
    backbone.load_state_dict(
        {f'backbone.{key}': value for key, value in published.items()} | {'neck.x': torch.zeros(1)}
    )
    assert len(lines) == 1 and 'published FDConv layout, 1262 tensors used' in lines[0]
    converted = convert(dict(state_dict=published))['state_dict']
    own = backbone.state_dict()
    assert {key.removeprefix('backbone.') for key in converted} == set(own)
    assert len(own) == 1262 + 48 - 4 * 16  # groups are saved; a convolution for three bands is one
    assert layout_of(own) == 'kw_mm' and recognise(own).conv == CONV
    other = DynamicResNet(50, CONV)
    other.load_state_dict(converted)
    assert all(torch.equal(value, own[key]) for key, value in other.state_dict().items())


def test_a_file_without_attentions_is_one_of_plain_weights(published):
    """What the published conversion tool writes."""
    plain = StaticResNet(50)
    backbone = DynamicResNet(50, CONV)
    spectra = {key: value for key, value in published.items() if 'KSM' not in key}
    spectra = {key: value for key, value in spectra.items() if 'FBM' not in key}
    assert layout_of(spectra) == 'fdconv'
    backbone.load_state_dict(spectra)
    kernels = {f'{n}.weight': m.plain_kernel() for n, m in fd_layers(backbone).items()}
    plain.load_state_dict(
        {**{k: v for k, v in spectra.items() if not k.endswith('dft_weight')}, **kernels}
    )
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        found, expected = backbone.double().eval()(x)[0], plain.double().eval()(x)[0]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()  # kernels were in float32


def test_other_weights_are_refused_in_words(published):
    for make in (
        lambda: DynamicResNet(18, CONV, **SMALL),
        lambda: DynamicResNet(50, dict(CONV, kernel_num=32)),
        lambda: KWResNet(18, **SMALL),
    ):
        with pytest.raises(
            CheckpointError,
            match='look like ResNet-50 in the published FDConv layout with FDConv2d',
        ):
            make().load_state_dict(published)


# --- other networks
def test_conv_cfg_of_any_network_loads_plain_weights():
    """A module that knows nothing of kw_mm: mmcv's ConvModule, through mmengine's loading."""
    from mmcv.cnn import ConvModule
    from mmengine.runner.checkpoint import load_state_dict

    options = dict(padding=1, norm_cfg=dict(type='BN'))
    plain = nn.Sequential(ConvModule(3, 24, 3, **options), ConvModule(24, 32, 3, **options))
    dynamic = nn.Sequential(
        *(
            ConvModule(*channels, 3, conv_cfg=dict(type='FDConv2d'), **options)
            for channels in ((3, 24), (24, 32))
        )
    )
    for module in dynamic:
        module.init_weights()
    assert dynamic[0].conv.why_plain and not dynamic[1].conv.why_plain
    load_state_dict(dynamic, plain.state_dict(), strict=True)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(dynamic.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)


def test_it_is_registered():
    assert MODELS.get('FDConv2d') is FDConv2d
