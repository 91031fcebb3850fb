import pytest
import torch
from golden import Golden
from mmengine.runner.checkpoint import load_state_dict

from kw_mm.backbones import KWMobileNetV2, KWResNet
from kw_mm.checkpoints import is_published
from kw_mm.checkpoints.published import summarise
from kw_mm.heads import KWLinearClsHead


def test_init_cfg_loads_a_published_file(tmp_path):
    golden = Golden('kw1x_resnet18')
    path = str(tmp_path / 'published.pth')
    torch.save({'state_dict': golden.state_dict()}, path)
    backbone = KWResNet(18, init_cfg=dict(type='Pretrained', checkpoint=path))
    backbone.init_weights()
    assert torch.equal(backbone.warehouses['stage3'].cells, golden.state_dict()['warehouse_manager.weights.2'])
    assert torch.equal(backbone.bn1.running_var, golden.state_dict()['bn1.running_var'])


def test_a_detector_loads_below_its_prefix():
    golden, detector = Golden('kw1x_resnet18'), torch.nn.ModuleDict({'backbone': KWResNet(18)})
    below = {f'backbone.{key}': value for key, value in golden.state_dict().items() if not key.startswith('fc.')}
    assert is_published(below, 'backbone.') and not is_published(below)
    detector.load_state_dict(below)
    assert torch.equal(detector['backbone'].warehouses['stage1'].cells, below['backbone.warehouse_manager.weights.0'])
    load_state_dict(detector, below, strict=True)                  # mmengine's own loop


def test_backbone_and_head_load_from_one_file():
    golden = Golden('kw1d2x_mobilenetv2_100')
    backbone, head = KWMobileNetV2(budget=1 / 2), KWLinearClsHead(1000, 1280)
    backbone.load_state_dict(golden.state_dict())
    head.load_state_dict(golden.state_dict())
    assert torch.equal(head.warehouses['classifier'].cells.flatten(),
                       golden.state_dict()['warehouse_manager.weights.9'].flatten())
    assert torch.equal(head.fc.bias, golden.state_dict()['classifier.1.conv.bias'])


def test_temperature_and_start_stay_the_modules_own():
    backbone = KWResNet(18)
    backbone.set_temperature(0.37)
    backbone.load_state_dict(Golden('kw1x_resnet18').state_dict())
    assert backbone.temperature.item() == pytest.approx(0.37)


def test_an_unknown_or_missing_key_is_not_silent():
    state_dict = Golden('kw1x_resnet18').state_dict()
    with pytest.raises(RuntimeError, match='layer9.0.conv1.weight'):
        KWResNet(18).load_state_dict({**state_dict, 'layer9.0.conv1.weight': torch.zeros(1)})
    del state_dict['layer1.0.conv1.attention.fc1.weight']
    with pytest.raises(RuntimeError, match='layer1.0.conv1.attention.fc1.weight'):
        KWResNet(18).load_state_dict(state_dict)


def test_another_budget_is_refused():
    with pytest.raises(RuntimeError, match='size mismatch'):
        KWResNet(18, budget=2).load_state_dict(Golden('kw1x_resnet18').state_dict())


def test_many_keys_are_named_by_group():
    assert summarise(['a.b', 'c']) == 'a.b, c'
    assert summarise([f'features.{i // 10}.{i}' for i in range(20)]) == 'features.0.* (10), features.1.* (10)'
