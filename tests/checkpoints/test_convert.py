from functools import partial

import pytest
import torch
from golden import Golden
from in_process import run_here
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2, ResNet
from torch import nn

from kw_mm.checkpoints import read_checkpoint
from kw_mm.checkpoints.architectures import recognise
from kw_mm.checkpoints.convert import budget_of, convert
from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.errors import CheckpointError
from kw_mm.models import DynamicResNet, KWConvNeXt, KWMobileNetV2, KWResNet, KWVisionTransformer
from kw_mm.models.mobilenet_v2 import NAMES
from kw_mm.warehouse import apply_kernel_warehouse
from kw_mm.warehouse.initialization import STARTS

GOLDEN = [
    'kw1x_resnet18',
    'kw1d2x_resnet50',
    'kw1x_mobilenetv2_100',
    'kw1d2x_mobilenetv2_100',
    'kw1x_convnext_tiny',
]


@pytest.mark.parametrize('name', GOLDEN)
@pytest.mark.parametrize('detector', [False, True])
def test_published_and_back_is_bit_exact(name, detector):
    published = Golden(name).state_dict()
    if detector:
        published = {
            f'backbone.{key}': value
            for key, value in published.items()
            if not key.startswith(('fc.', 'classifier.', 'head.'))
            and not key.endswith('weights.9')
            or (
                key.endswith('weights.9') and name in ('kw1x_mobilenetv2_100', 'kw1x_convnext_tiny')
            )
        }
        published.update(
            {
                'neck.fpn_convs.0.conv.weight': torch.randn(3),
                'roi_head.bbox_head.fc_cls.bias': torch.randn(2),
            }
        )
    ours = convert(dict(model=published))
    assert any(key.startswith('backbone.warehouses.') for key in ours['state_dict'])
    back = convert(ours, 'published')['state_dict']
    assert set(back) == set(published)
    for key, value in published.items():
        assert torch.equal(back[key], value), key


def test_a_converted_classifier_loads_into_a_mmpretrain_model(tmp_path):
    torch.save(convert(Golden('kw1d2x_mobilenetv2_100').state_dict()), tmp_path / 'x.pth')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            _scope_='mmpretrain',
            backbone=dict(type='KWMobileNetV2', budget=1 / 2),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='KWLinearClsHead', num_classes=1000, in_channels=1280),
        )
    )
    model.load_state_dict(read_checkpoint(str(tmp_path / 'x.pth'))['state_dict'])


@pytest.mark.parametrize(
    'plain, make',
    [
        (ResNet(18), lambda **kw: KWResNet(18, **kw)),
        (MobileNetV2(), lambda **kw: KWMobileNetV2(**kw)),
    ],
)
@pytest.mark.parametrize('budget', [1, 4])
def test_plain_weights_at_temperature_1_come_back_bit_exact(plain, make, budget):
    source = {
        **plain.state_dict(),
        'head.fc.weight': torch.randn(3, 4),
        'head.fc.bias': torch.randn(3),
    }
    source = {
        key if key.startswith('head') else f'backbone.{key}': value for key, value in source.items()
    }
    ours = convert(source, 'kw_mm', budget=budget)['state_dict']
    assert float(ours['backbone.warehouses.temperature']) == 0
    make(budget=budget).load_state_dict(ours)
    back = convert(ours, 'static')['state_dict']
    assert set(back) == set(source)
    for key, value in source.items():  # cells and attention absorb each other's factor
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=0)


def test_what_has_been_trained_has_no_static_network_below_temperature_1():
    with pytest.raises(
        CheckpointError, match='temperature 0 and has been trained: its kernels depend on the image'
    ):
        convert(KWResNet(18).state_dict(), 'static')


def test_torchvision_names_become_mmpretrains():

    plain = MobileNetV2().state_dict()
    pairs = reverse(NAMES['torchvision'])
    torchvision = {rename(key, pairs): value for key, value in plain.items()}
    torchvision['classifier.1.weight'] = torch.zeros(10, 1280)
    found = convert(torchvision, 'static')['state_dict']
    assert set(found) == {f'backbone.{key}' for key in plain} | {'head.fc.weight'}


@pytest.mark.parametrize(
    'content, to, message',
    [
        (ResNet(18).state_dict(), 'published', 'no published KernelWarehouse layout'),
        (ResNet(18).state_dict(), 'onnx', "to must be one of 'kw_mm', .*, got to='onnx'"),
        (
            {'a.weight': torch.zeros(1)},
            'kw_mm',
            'unknown network .*kw_mm converts ConvNeXts, MobileNetV2, ResNets of depth 18, 34, 50, '
            '101 and 152 and vision transformers',
        ),
        ({'a': 1}, 'kw_mm', 'no weights'),
    ],
)
def test_what_cannot_be_converted_says_why(content, to, message):
    with pytest.raises(CheckpointError, match=message):
        convert(content, to)


def test_the_command(tool, tmp_path, capsys, monkeypatch):
    here = partial(run_here, 'convert_checkpoint', capsys=capsys, monkeypatch=monkeypatch)
    source, ours, back = (tmp_path / name for name in ('a.pth', 'b.pth', 'c.pth'))
    published = Golden('kw1x_resnet18').state_dict()
    torch.save(dict(state_dict=published), source)
    assert 'ResNet-18 in the kw_mm layout' in tool('convert_checkpoint', source, ours).stdout
    assert here(ours, back, '--to', 'published').code == 0
    assert all(
        torch.equal(value, published[key]) for key, value in torch.load(back)['state_dict'].items()
    )
    done = here(source, ours)
    assert done.code == 2 and '--overwrite' in done.error
    done = here(tmp_path / 'nowhere.pth', back, '--overwrite')
    assert done.code == 2 and 'nowhere.pth' in done.error and 'Traceback' not in done.stderr


@pytest.mark.parametrize('to', ['static', 'published'])
def test_dynamic_networks_have_no_warehouse_twin(to):
    with pytest.raises(CheckpointError, match=f'DynamicResNet has no {to} KernelWarehouse twin'):
        convert(DynamicResNet(18, dict(type='DYConv2d', num_kernels=2)).state_dict(), to)


def test_published_odconv_becomes_an_openmmlab_model():
    published = Golden('odconv4x_resnet50').state_dict()
    converted = convert(published)['state_dict']
    assert torch.equal(
        converted['backbone.layer2.0.conv2.weight'], published['layer2.0.conv2.weight']
    )
    assert converted['backbone.layer2.0.conv2.attention.spatial_fc.weight'].shape == (9, 16)
    assert torch.equal(converted['head.fc.bias'], published['fc.bias'])
    assert convert(converted)['state_dict'].keys() == converted.keys()


@pytest.mark.parametrize('start', STARTS)
def test_the_start_kernel_is_what_a_layer_computes_at_temperature_1(start):
    net = apply_kernel_warehouse(
        nn.Sequential(nn.Conv2d(4, 8, 2)), {'all': ['0']}, start=start, init='published'
    ).eval()
    net.warehouses.set_temperature(1)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(net(x), nn.functional.conv2d(x, net[0].plain_kernel, net[0].bias))


ARCH = dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64])
DEIT = dict(embed_dims=64, num_layers=3, num_heads=1, feedforward_channels=128)
BUDGETS = {
    'resnet': (lambda budget: KWResNet(18, budget), (1 / 4, 3 / 4, 1, 3)),
    'mobilenet': (lambda budget: KWMobileNetV2(0.5, budget), (1 / 2, 1, 4)),
    'convnext': (lambda budget: KWConvNeXt(ARCH, budget), (1 / 2, 3 / 4, 1, 2)),
    'transformer': (lambda budget: KWVisionTransformer(DEIT, budget), (1 / 4, 1, 5)),
}


@pytest.mark.parametrize(
    'name, budget', [(name, budget) for name, (_, budgets) in BUDGETS.items() for budget in budgets]
)
def test_the_budget_follows_from_the_weights(name, budget):
    entries = BUDGETS[name][0](budget).state_dict()
    assert budget_of(recognise(entries), entries) == budget
    published = convert(entries, 'published')['state_dict']
    assert budget_of(recognise(published), published) == budget
    back = convert(published)['state_dict']
    assert all(torch.equal(back[f'backbone.{key}'], value) for key, value in entries.items())


@pytest.mark.parametrize(
    'content, options, message',
    [
        (ResNet(18).state_dict(), dict(budget=0.3), 'budget=0.3 .*nearest'),
        (
            KWResNet(18, sharing=dict(mine=['layer4.1.conv1', 'layer4.1.conv2'])).state_dict(),
            dict(to='published'),
            'ResNet-18 in the kw_mm layout.*missing: ',
        ),
    ],
)
def test_networks_that_are_not_the_published_ones_say_why(content, options, message):
    with pytest.raises(CheckpointError, match=message):
        convert(content, **options)


def test_a_detectors_other_parts_stay():
    source = {f'backbone.{key}': value for key, value in KWResNet(18).state_dict().items()}
    source.update({'neck.x.weight': torch.ones(1), 'bbox_head.x.weight': torch.ones(2)})
    back = convert(convert(source, 'published'))['state_dict']
    assert back.keys() == source.keys()
