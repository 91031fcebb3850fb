"""At temperature 1 the plain network, at any other nothing changes."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from small_networks import FAMILIES, SHORT, build
from torch import nn

from kw_mm.export import make_static
from kw_mm.warehouse import KWLayer, apply_kernel_warehouse, kw_layers


@torch.no_grad()
@pytest.mark.parametrize('name', ['resnet18', 'mobilenet', 'convnext'])
def test_equal_values_and_no_attention(name):
    network = build(FAMILIES[name], temperature=1)
    static = copy.deepcopy(network)
    assert make_static(static) == len(kw_layers(network)) > 10
    assert not any(isinstance(module, KWLayer) for module in static.modules())
    assert not [key for key in static.state_dict() if 'attention' in key or 'warehouse' in key]
    x = torch.randn(2, 3, 64, 64)
    for out, expected in zip(static(x), network(x)):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize('temperature', [0, 0.999])
def test_other_temperatures_stay(temperature):
    network = build(dict(type='KWResNet', **SHORT), temperature=temperature)
    before = list(network.state_dict())
    assert make_static(network) == 0
    assert list(network.state_dict()) == before


@torch.no_grad()
def test_layers_with_frozen_cells_keep_their_own():
    network = MODELS.build(
        dict(
            type='KWResNet',
            **{**SHORT, 'budget': 1},
            frozen_stages=1,
            freeze_warehouses='strict',
            temperature=1,
        )
    ).eval()
    for warehouse in network.warehouses.values():
        warehouse.cells += 1  # the frozen layers' copies stay behind
    x = torch.randn(2, 3, 64, 64)
    expected = network(x)
    make_static(network)
    for out, reference in zip(network(x), expected):
        torch.testing.assert_close(out, reference, rtol=0, atol=1e-5 * float(reference.abs().max()))


@torch.no_grad()
def test_any_module():
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16))
    apply_kernel_warehouse(
        network, {'conv': ['0'], 'fc': ['3']}, budget=2, attention_norm='LN', init='published'
    ).eval()
    network.warehouses.set_temperature(1)
    expected = network(x := torch.randn(2, 8, 4, 4))
    assert make_static(network) == 2
    torch.testing.assert_close(network(x), expected)
