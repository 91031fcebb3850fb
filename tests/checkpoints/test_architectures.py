"""Every registered architecture is told from the others by its weights, in every layout."""

import pytest
import torch

from kw_mm import models
from kw_mm.checkpoints.architectures import architectures, dynamic_conv, recognise
from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.describing import describe_network
from kw_mm.checkpoints.layouts import layout_of, rename, reverse
from kw_mm.models.base import KWBackbone

OPTIONS = {
    models.KWResNet: dict(depth=18),
    models.KWMobileNetV2: dict(widen_factor=0.5),
    models.KWConvNeXt: dict(
        arch=dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64]), out_indices=[3]
    ),
    models.KWVisionTransformer: dict(
        arch=dict(embed_dims=64, num_layers=4, num_heads=1, feedforward_channels=128),
        patch_size=16,
        img_size=64,
    ),
}
WORDS = {
    models.KWResNet: 'ResNet-18',
    models.KWMobileNetV2: 'MobileNetV2 0.5',
    models.KWConvNeXt: 'a ConvNeXt with 1-1-3-1 blocks of 16-32-48-64 channels',
    models.KWVisionTransformer: 'a vision transformer with 4 layers of 64 channels',
}
CONV = dict(type='ODConv2d', num_kernels=2)


def state_dicts(architecture):
    """{(layout, project): entries} of an architecture's backbones."""
    options = OPTIONS[architecture.kw]
    static, kw = architecture.static(**options), architecture.kw(**options)
    found = {
        ('static', project): {
            rename(key, reverse(pairs)): value for key, value in static.state_dict().items()
        }
        for project, pairs in static.layout_names().static.items()
    }
    found['kw_mm', ''] = kw.state_dict()
    found['published', ''] = convert(kw.state_dict(), 'published')['state_dict']
    if architecture.dynamic:
        found['kw_mm', 'dynamic'] = architecture.dynamic(conv=CONV, **options).state_dict()
    return found


def test_every_backbone_with_warehouses_is_registered():
    exported = {getattr(models, name) for name in models.__all__}
    kw = {kind for kind in exported if issubclass(kind, KWBackbone)}
    assert kw == set(OPTIONS) == {architecture.kw for architecture in architectures()}


@pytest.mark.parametrize('architecture', architectures(), ids=lambda one: one.kw.__name__)
def test_it_recognises_its_own_weights_and_no_other_does(architecture):
    options = OPTIONS[architecture.kw]
    for (layout, project), entries in state_dicts(architecture).items():
        found = recognise(entries)
        case = (layout, project)
        assert layout_of(entries) == layout, case
        assert found.architecture is architecture and found.options == options, case
        assert found.conv == (CONV if project == 'dynamic' else None), case
        assert describe_network(entries) == WORDS[architecture.kw], case
        for other in architectures():
            if other is not architecture:
                assert other.recognise(entries) is None, (case, other.name)
                assert other.describe(entries) is None, (case, other.name)


def test_what_nobody_knows():
    entries = {'a.weight': torch.zeros(1), 'b.weight': torch.zeros(1)}
    assert recognise(entries) is None and dynamic_conv(entries) is None
    assert describe_network(entries) == 'an unknown network (a.weight, b.weight, ...)'
    assert describe_network({}) == 'an unknown network (empty, ...)'


def test_a_resnet_of_other_sizes_is_described_but_not_known():
    entries = {
        'conv1.weight': torch.zeros(32, 3, 7, 7),
        'layer1.0.conv1.weight': torch.zeros(1),
        'layer2.1.conv1.weight': torch.zeros(1),
    }
    assert recognise(entries) is None
    assert describe_network(entries) == 'a ResNet with 1-2 blocks with a stem of 32 channels'
