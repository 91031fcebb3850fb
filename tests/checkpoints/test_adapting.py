import pytest
import torch
from golden import Golden
from mmengine.runner.checkpoint import load_state_dict

from kw_mm.errors import CheckpointError
from kw_mm.models import KWLinearClsHead, KWMobileNetV2, KWResNet
from kw_mm.warehouse.warehouses import list_cells


@pytest.fixture(scope='module')
def published():
    return Golden('kw1x_resnet18').state_dict()


def is_loaded(backbone, published):
    return torch.equal(
        list_cells(backbone.warehouses['stage3'].cells), published['warehouse_manager.weights.2']
    ) and torch.equal(backbone.bn1.running_var, published['bn1.running_var'])


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: s,
        lambda s: {'state_dict': s},
        lambda s: {'model': s, 'epoch': 3, 'optimizer': {'state': {}}},
        lambda s: {'model_ema': s},
        lambda s: {f'module.{k}': v for k, v in s.items()},
        lambda s: {'model': {f'module.{k}': v for k, v in s.items()}},
        lambda s: {f'backbone.{k}': v for k, v in s.items()},
        lambda s: {
            'state_dict': {**{f'backbone.{k}': v for k, v in s.items()}, 'neck.x': torch.zeros(1)}
        },
    ],
    ids=[
        'alone',
        'state_dict',
        'model',
        'model_ema',
        'module',
        'model-module',
        'backbone',
        'detector',
    ],
)
def test_every_wrapping_loads_by_load_state_dict_and_by_init_cfg(wrap, published, tmp_path):
    backbone = KWResNet(18)
    backbone.load_state_dict(wrap(published))
    assert is_loaded(backbone, published)
    path = str(tmp_path / 'published.pth')
    torch.save(wrap(published), path)
    backbone = KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint=path))
    backbone.init_weights()
    assert is_loaded(backbone, published)


def test_a_detector_loads_below_its_prefix(published):
    detector = torch.nn.ModuleDict({'backbone': KWResNet(18)})
    below = {
        f'backbone.{key}': value for key, value in published.items() if not key.startswith('fc.')
    }
    detector.load_state_dict(below)
    assert is_loaded(detector['backbone'], published)
    load_state_dict(detector, below, strict=True)  # mmengine's own loop


def test_backbone_and_head_load_from_one_file():
    published = Golden('kw1d2x_mobilenetv2_100').state_dict()
    backbone, head = KWMobileNetV2(budget=1 / 2), KWLinearClsHead(1000, 1280)
    backbone.load_state_dict(published)
    head.load_state_dict(published)
    assert torch.equal(
        list_cells(head.warehouses['classifier'].cells).flatten(),
        published['warehouse_manager.weights.9'].flatten(),
    )
    assert torch.equal(head.fc.bias, published['classifier.1.conv.bias'])


def test_temperature_and_start_stay_the_modules_own(published):
    backbone = KWResNet(18, temperature=0.37)
    backbone.load_state_dict(published)
    assert backbone.temperature.item() == pytest.approx(0.37)


def test_strict_freezing_copies_published_cells(published):
    backbone = KWResNet(18, frozen_stages=1, freeze_warehouses='strict')
    backbone.load_state_dict(published)
    assert torch.equal(
        list_cells(backbone.warehouses['stage1'].frozen_cells),
        published['warehouse_manager.weights.0'],
    )


@pytest.mark.parametrize('strict', [True, False])
def test_a_missing_or_unknown_key_is_never_silent(published, strict):
    with pytest.raises(CheckpointError, match='unknown: layer9.0.conv1.weight'):
        KWResNet(18).load_state_dict(
            {**published, 'layer9.0.conv1.weight': torch.zeros(1)}, strict=strict
        )
    incomplete = {
        key: value
        for key, value in published.items()
        if key != 'layer1.0.conv1.attention.fc1.weight'
    }
    with pytest.raises(CheckpointError, match='missing: layer1.0.conv1.attention.fc1.weight'):
        KWResNet(18).load_state_dict(incomplete, strict=strict)


@pytest.mark.parametrize(
    'make, looks, expected',
    [
        (
            lambda: KWResNet(18, budget=2),
            'ResNet-18 in the published KernelWarehouse layout with budget 1',
            'ResNet-18 in the kw_mm layout with budget 2',
        ),
        (
            lambda: KWResNet(18, budget=1 / 2),
            'ResNet-18 in the published .* budget 1,',
            'ResNet-18 .* with budget 0.5',
        ),
        (lambda: KWResNet(34), 'ResNet-18 in the published', 'ResNet-34 in the kw_mm layout'),
        (lambda: KWResNet(50), 'ResNet-18 in the published', 'ResNet-50 in the kw_mm layout'),
        (
            lambda: KWMobileNetV2(),
            'ResNet-18 in the published',
            'MobileNetV2 1 in the kw_mm layout',
        ),
    ],
)
def test_another_network_is_refused_in_one_sentence(make, looks, expected, published):
    with pytest.raises(
        CheckpointError, match=f'look like {looks}.*this KW.* is {expected}'
    ) as error:
        make().load_state_dict(published)
    assert '\n' not in str(error.value)


def test_an_inherited_prefix_is_named_with_the_way_out(published, tmp_path):
    torch.save(published, tmp_path / 'x.pth')
    inherited = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix='backbone.')
    with pytest.raises(CheckpointError, match="prefix='backbone.'; .*prefix=None takes it away"):
        KWResNet(18, init_cfg=inherited).init_weights()
    backbone = KWResNet(18, init_cfg={**inherited, 'prefix': None})
    backbone.init_weights()
    assert is_loaded(backbone, published)
