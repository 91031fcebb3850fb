"""ConvNeXts of every project, into KWConvNeXt and StaticConvNeXt."""

import pytest
import torch
from golden import Golden
from mmpretrain.models.backbones import ConvNeXt
from torchvision.models import convnext
from torchvision.models.convnext import CNBlockConfig

from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.errors import CheckpointError
from kw_mm.models import KWConvNeXt, StaticConvNeXt
from kw_mm.models.convnext import convnext_names

DEPTHS, CHANNELS = [1, 2, 3, 1], [16, 32, 48, 64]
ARCH = dict(depths=DEPTHS, channels=CHANNELS)
DETECTION = dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False)
PROJECTS = convnext_names(DEPTHS)


def plain_network():
    network = ConvNeXt(ARCH, layer_scale_init_value=0.5)
    for parameter in network.parameters():  # no tensor stays at its default
        torch.nn.init.normal_(parameter, 1 if parameter.dim() == 1 else 0, 0.1)
    return network


def named(state_dict, project):
    """mmpretrain's ConvNeXt under another project's names."""
    pairs = reverse(PROJECTS[project])
    return {rename(key, pairs): value for key, value in state_dict.items()}


def assert_same(found, expected):
    torch.testing.assert_close(
        found, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max())
    )


@pytest.mark.parametrize('project', PROJECTS)
@pytest.mark.parametrize('wrap', ['', 'backbone.'])
def test_plain_weights_of_every_project(project, wrap):
    plain, x = plain_network(), torch.randn(2, 3, 64, 64)
    state_dict = {wrap + key: value for key, value in named(plain.state_dict(), project).items()}
    for backbone in (
        KWConvNeXt(ARCH, 2, temperature=1),
        KWConvNeXt(ARCH, temperature=1, linear_pw_conv=False),
        StaticConvNeXt(ARCH),
    ):
        backbone.load_state_dict(dict(state_dict))
        assert_same(backbone(x)[0], plain(x)[0])


@torch.no_grad()
def test_torchvisions_own_network():
    """Not only its names: another implementation, whose classifier sees the same features."""
    last = [*CHANNELS[1:], None]
    blocks = [CNBlockConfig(*sizes) for sizes in zip(CHANNELS, last, DEPTHS)]
    plain = convnext.ConvNeXt(blocks, layer_scale=0.5, num_classes=7).eval()
    x = torch.randn(2, 3, 64, 64)
    for backbone in (KWConvNeXt(ARCH, temperature=1).eval(), StaticConvNeXt(ARCH).eval()):
        backbone.load_state_dict(plain.state_dict())
        logits = plain.classifier[2](backbone(x)[0])
        assert_same(logits, plain(x))


def test_names_of_the_projects():
    state_dict = plain_network().state_dict()
    assert {
        'downsample_layers.0.0.weight',
        'stages.2.1.dwconv.bias',
        'stages.2.1.pwconv2.weight',
        'stages.1.0.gamma',
        'norm.weight',
    } <= set(named(state_dict, 'facebook'))
    assert {
        'stem.1.weight',
        'stages.1.downsample.1.weight',
        'stages.2.blocks.1.conv_dw.weight',
        'stages.0.blocks.0.mlp.fc1.bias',
        'stages.0.blocks.0.norm.bias',
        'stages.0.blocks.0.gamma',
        'head.norm.weight',
    } <= set(named(state_dict, 'timm'))


def test_a_detectors_backbone_keeps_its_other_norms_and_says_so(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    golden, backbone = Golden('kw1x_convnext_tiny').state_dict(), KWConvNeXt(**DETECTION)
    backbone.load_state_dict(golden)
    # the classifier's norm, of averaged features, is none of a detector's: as published
    assert not torch.equal(backbone.norm3.weight, golden['norm.weight'])
    for norm in (backbone.norm0, backbone.norm3):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    assert 'kept as they were: norm0.weight, norm0.bias, norm1.weight' in lines[0]
    assert 'of other modules: ' in lines[0] and 'norm3.weight' in lines[0]
    early = KWConvNeXt(out_indices=[0, 1], gap_before_final_norm=False)
    early.load_state_dict(backbone.state_dict())
    assert lines[1].endswith('of other modules: norm2.weight, norm2.bias, norm3.weight, norm3.bias')


def test_a_detectors_own_norms_load():
    source, target = KWConvNeXt(ARCH, **DETECTION), KWConvNeXt(ARCH, **DETECTION)
    torch.nn.init.normal_(source.norm1.weight)
    published = convert(
        {f'backbone.{key}': value for key, value in source.state_dict().items()}, 'published'
    )['state_dict']
    assert {'norm0.weight', 'norm3.bias', 'stages.2.1.dwconv.bias'} <= set(
        published
    ) and 'norm.weight' not in published
    target.load_state_dict(published)
    assert all(
        torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items()
    )


@pytest.mark.parametrize('project', PROJECTS)
def test_plain_files_become_mmpretrains(project):
    plain = plain_network().state_dict()
    classifier = dict(
        facebook='head.', timm='head.fc.', torchvision='classifier.2.', mmpretrain='head.fc.'
    )[project]
    source = {
        **named(plain, project),
        f'{classifier}weight': torch.randn(3, 64),
        f'{classifier}bias': torch.randn(3),
    }
    found = convert(source, 'static')['state_dict']
    assert set(found) == {*(f'backbone.{key}' for key in plain), 'head.fc.weight', 'head.fc.bias'}
    assert all(torch.equal(found[f'backbone.{key}'], value) for key, value in plain.items())


@pytest.mark.parametrize(
    'make, weights, message',
    [
        (
            lambda: KWConvNeXt(ARCH),
            lambda: ConvNeXt('atto'),
            'look like a ConvNeXt with 2-2-6-2 blocks of 40-80-160-320 '
            'channels in the plain .*, but this KWConvNeXt is a ConvNeXt with 1-2-3-1 blocks',
        ),
        (
            lambda: KWConvNeXt(ARCH),
            lambda: KWConvNeXt(ARCH, 2),
            'with budget 2, but this KWConvNeXt .* with budget 1',
        ),
        (lambda: KWConvNeXt(ARCH, 3 / 4, attention_start='published'), plain_network, 'budget < 1'),
    ],
)
def test_what_does_not_fit_is_refused(make, weights, message):
    with pytest.raises(CheckpointError, match=message):
        make().load_state_dict(weights().state_dict())
