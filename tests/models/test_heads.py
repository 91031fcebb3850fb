"""Classifier heads."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from kw_mm.compared import CondLinear, DCDLinear
from kw_mm.models import KWLinearClsHead

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


def test_published_classifier():
    head = MODELS.build(dict(type='KWLinearClsHead', num_classes=1000, in_channels=1280))
    warehouse = head.warehouses['classifier']
    assert (warehouse.num_cells, warehouse.cell_shape) == (20, (1000, 32))
    assert head.fc.attention.fc1.out_features == 40 and head.fc.bias.shape == (1000,)


def test_it_trains_and_has_a_temperature_of_its_own():
    head = KWLinearClsHead(10, 80)
    head.init_weights()
    assert head.fc.attention.fc1.weight.std() > 0.1  # not reset to N(0, 0.01)
    features = torch.randn(4, 80)
    scores = head((features,))
    assert scores.shape == (4, 10)
    scores.square().mean().backward()
    assert all(p.grad is not None for p in head.parameters())
    head.set_temperature(0.37)
    assert head.temperature.item() == pytest.approx(0.37)


def test_bad_cells_are_refused():
    with pytest.raises(ValueError, match='cell_ratio'):
        KWLinearClsHead(10, 81)
