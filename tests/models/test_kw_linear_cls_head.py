import pytest
import torch
from mmengine.registry import MODELS

from kw_mm.models import KWLinearClsHead


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
