import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from kw_mm.compared import CondLinear, DCDLinear

CASES = [
    (None, nn.Linear),
    (dict(type='CondLinear', num_kernels=3), CondLinear),
    (dict(type='DCDLinear', dim=4), DCDLinear),
]


@pytest.mark.parametrize('linear, kind', CASES)
def test_it_classifies_learns_and_keeps_its_layers_start(linear, kind):
    head = MODELS.build(
        dict(
            type='DynamicLinearClsHead',
            num_classes=5,
            in_channels=8,
            linear=linear,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        )
    )
    before = {key: value.clone() for key, value in head.state_dict().items()}
    head.init_weights()
    assert isinstance(head.fc, kind)
    assert linear is None or all(
        torch.equal(value, before[key]) for key, value in head.state_dict().items()
    )
    head((torch.randn(4, 8),))[:, 0].sum().backward()
    assert not [key for key, p in head.named_parameters() if p.grad is None]


def test_dropout_is_for_training_alone():
    head = MODELS.build(
        dict(
            type='DynamicLinearClsHead',
            num_classes=5,
            in_channels=1000,
            dropout=0.2,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        )
    )
    x = torch.ones(1, 1000)
    assert 0.15 < float((head.train().pre_logits((x,)) == 0).float().mean()) < 0.25
    assert torch.equal(head.eval().pre_logits((x,)), x)
