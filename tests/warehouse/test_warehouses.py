"""Cells: their shape, their order in memory, and state dicts of kw_mm 0.1, which had another."""

import copy
import logging

import pytest
import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse
from kw_mm.warehouse.warehouses import list_cells, store_cells


def network(budget=2, channels=16):
    net = nn.Sequential(nn.Conv2d(8, channels, 3, padding=1), nn.Conv2d(channels, channels, 1))
    return apply_kernel_warehouse(net, {'a': ['0'], 'b': ['1']}, budget=budget, init='published')


def old_state_dict(net, versioned=True):
    """As kw_mm 0.1 saved it: cells (cell_out, n, cell_in), contiguous, version 1."""
    state_dict = copy.deepcopy(net.state_dict())
    for key in state_dict:
        if key.endswith('cells'):
            state_dict[key] = state_dict[key].transpose(0, 1).contiguous()
    for entry in state_dict._metadata.values():
        entry['version'] = 1
    return state_dict if versioned else dict(state_dict)


def same(net, other):
    pairs = zip(net.state_dict().items(), other.state_dict().items())
    assert all(key == name and torch.equal(one, two) for (key, one), (name, two) in pairs)


def test_cells_have_the_published_shape_and_the_output_channels_slowest_in_memory():
    warehouse = network().warehouses['a']
    n, (cell_out, cell_in) = warehouse.num_cells, warehouse.cell_shape
    assert warehouse.cells.shape == (n, cell_out, cell_in) == (18, 16, 8)
    assert warehouse.cells.stride() == (cell_in, n * cell_in, 1)
    assert warehouse.listed.shape == (n, cell_out, cell_in, 1, 1)


def test_storing_and_listing_are_inverses():
    cells = torch.randn(5, 4, 3, 2, 1)
    stored = store_cells(cells)
    assert stored.shape == (5, 4, 6) and torch.equal(list_cells(stored, (2, 1)), cells)


def test_copies_gradients_and_optimizers_keep_the_order_in_memory(tmp_path):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(2, 8, 6, 6)).square().mean().backward()
    optimizer.step()
    cells = net.warehouses['a'].cells
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    twin = network()
    twin.load_state_dict(torch.load(tmp_path / 'net.pth'))
    others = [
        cells.grad,
        optimizer.state[cells]['momentum_buffer'],
        copy.deepcopy(net).warehouses['a'].cells,
        torch.load(tmp_path / 'net.pth')['warehouses.a.cells'],
        twin.warehouses['a'].cells,
        net.double().warehouses['a'].cells,
    ]
    assert all(other.stride() == (8, 18 * 8, 1) for other in others)
    same(twin.double(), net)


@pytest.mark.parametrize('versioned', [True, False])
def test_state_dicts_of_the_old_order_load_with_a_line(versioned, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('kw_mm'), 'propagate', True)
    net, twin = network(), network()
    with caplog.at_level(logging.INFO, logger='kw_mm'):
        twin.load_state_dict(old_state_dict(net, versioned))
    same(twin, net)
    assert twin.warehouses.loaded_old_order
    assert len(caplog.records) == 1 and 'order of kw_mm 0.1' in caplog.text
    caplog.clear()
    twin.load_state_dict(net.state_dict())
    same(twin, net)
    assert not twin.warehouses.loaded_old_order and not caplog.records


def test_where_all_warehouses_are_square_the_version_tells():
    """n = 16 cells of 16 output channels: the shape is the same in both orders."""
    net, twin = (
        apply_kernel_warehouse(nn.Sequential(nn.Conv2d(8, 16, 4)), {'a': ['0']}, init='published')
        for _ in range(2)
    )
    assert net.warehouses['a'].cells.shape[:2] == (16, 16)
    for state_dict, old in ((net.state_dict(), False), (old_state_dict(net), True)):
        twin.load_state_dict(state_dict)
        same(twin, net)
        assert twin.warehouses.loaded_old_order == old
    twin.load_state_dict(dict(net.state_dict()))
    same(twin, net)


def test_a_frozen_copy_is_reordered_too():
    net, twin = network(), network()
    for one in (net, twin):
        one.warehouses['a'].keep_frozen_copy()
    twin.load_state_dict(old_state_dict(net))
    same(twin, net)


def test_writing_some_cells_and_copies_with_some_cells():
    warehouse = network().warehouses['a']
    before, index = warehouse.listed, torch.tensor([3, 1])
    values = torch.randn(2, *before.shape[1:])
    copied = warehouse.with_cells(index, values)
    assert torch.equal(warehouse.listed, before) and copied.stride() == warehouse.cells.stride()
    warehouse.write(index, values)
    assert torch.equal(copied, warehouse.cells)
    expected = before.clone()
    expected[index] = values
    assert torch.equal(warehouse.listed, expected)
