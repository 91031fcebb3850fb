import copy
import io
import logging
import re

import pytest
import torch
from torch import nn

from kw_mm.warehouse import KWConv2d, apply_kernel_warehouse, kw_layers
from kw_mm.warehouse.warehouses import list_cells

PLAN = {'a': ['0', '2'], 'b': ['4']}


def plain():
    return nn.Sequential(
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 1, bias=False),
        nn.Flatten(),
        nn.Linear(32 * 36, 10),
    )


def network(**options):
    return apply_kernel_warehouse(plain(), PLAN, **{'init': 'published', **options})


def test_planned_layers_are_replaced_and_share_one_parameter():
    net = network()
    assert list(kw_layers(net)) == ['0', '2', '4']
    assert net[0].cells is net[2].cells is net.warehouses['a'].cells
    assert net[0].bias is not None and net[2].bias is None
    assert [key for key in net.state_dict() if 'warehouses' in key] == [
        'warehouses.temperature',
        'warehouses.a.cells',
        'warehouses.b.cells',
    ]


def test_start_cells_follow_the_plan_not_the_module_order():
    forward = network()
    backward = apply_kernel_warehouse(plain(), {'a': ['2', '0'], 'b': ['4']}, init='published')
    assert forward[0].start_cells.tolist() == list(range(9)) and forward[
        2
    ].start_cells.tolist() == [9, 10]
    assert backward[2].start_cells.tolist() == [0, 1] and backward[0].start_cells.tolist() == list(
        range(2, 11)
    )


def test_wrapping_changes_nothing():
    wrapped = apply_kernel_warehouse(
        nn.Sequential(plain()), {'a': ['0.0', '0.2'], 'b': ['0.4']}, init='published'
    )
    for mine, other in zip(kw_layers(network()).values(), kw_layers(wrapped).values()):
        assert torch.equal(mine.start_cells, other.start_cells)


def test_a_shared_warehouse_collects_the_gradients_of_its_layers():
    net, x = network(), torch.randn(2, 16, 8, 8)
    net(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_temperature_is_one_buffer_for_all_layers():
    net, x = network().eval(), torch.randn(2, 16, 8, 8)
    before = net(x)
    net.warehouses.set_temperature(0.5)
    assert (net(x) - before).abs().max() > 1e-3
    assert 'warehouses.temperature' in net.state_dict()


@pytest.mark.parametrize('value', [-0.1, 1.1, float('nan')])
def test_temperature_outside_0_and_1_is_refused(value):
    with pytest.raises(ValueError, match='temperature'):
        network().warehouses.set_temperature(value)


def test_a_checkpoint_restores_temperature_and_start():
    net, other, x = network().eval(), network().eval(), torch.randn(2, 16, 8, 8)
    net.warehouses.set_temperature(0.37)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(net(x), other(x))


def test_a_copy_owns_its_warehouses():
    net = network().eval()
    twin, x = copy.deepcopy(net), torch.randn(2, 16, 8, 8)
    before = net(x)
    assert torch.equal(twin(x), before)
    twin.warehouses.set_temperature(1)
    twin.warehouses['a'].cells.data.zero_()
    assert torch.equal(net(x), before)
    assert twin[0].warehouse is twin.warehouses['a']


def test_moving_the_network_moves_what_layers_see():
    net = network().double().eval()
    assert net(torch.randn(2, 16, 8, 8, dtype=torch.double)).dtype == torch.double


def test_plain_init_makes_start_cells_a_plain_network():
    torch.manual_seed(0)
    net = network(init='plain', budget=4)
    start = list_cells(net.warehouses['a'].cells)[net[0].start_cells]
    assert start.std().item() == pytest.approx(
        (2 / (32 * 9)) ** 0.5, rel=0.05
    )  # Kaiming fan-out of 32 x 16 x 3 x 3


@pytest.mark.parametrize(
    'plan, options, message',
    [
        ({'a': ['9']}, {}, "'9' that is not in Sequential; there are for example"),
        ({'a': ['1']}, {}, "'1' is a ReLU"),
        ({'a': ['0'], 'b': ['0']}, {}, "'0' is named more than once"),
        ({'a': []}, {}, "'a' names no layer"),
        ({}, {}, 'names no warehouse'),
        ({'a': dict(layers=['0'], size=3)}, {}, r"unknown options \['size'\]"),
        ({'a': ['0']}, dict(budget=0), 'budget=0'),
        ({'a': ['0']}, dict(budget='1x'), "budget='1x'"),
        ({'a': ['0']}, dict(budget=0.3), 'budget=0.3'),
        ({'a': ['0']}, dict(init='zeros'), "init='zeros'"),
        ({'a': ['0']}, dict(init='keep', start='none'), "init='keep' cannot keep .* layer '0'"),
        ({'a': ['0']}, dict(cell_ratio=(1 / 3, 1)), "warehouse 'a': cell_ratio"),
        ({'a': ['0']}, dict(cell_ratio=2), r'got cell_ratio=2; .*\(0.5, 0.5\)'),
        ({'a': dict(layers=['0'], cell_ratio=(1,))}, {}, r'cell_ratio=\(1,\)'),
        ({'a': ['0']}, dict(nonlocal_basis_ratio=0), 'nonlocal_basis_ratio=0'),
        ({'a': ['0']}, dict(reduction='x'), "got reduction='x'; .*1/16"),
        ({'a': ['0']}, dict(reduction=True), 'reduction=True'),
        ({'a': ['0']}, dict(partition='no'), "partition must be True or False, got partition='no'"),
        (
            {'a': ['0']},
            dict(assemble_checkpoint=1),
            'assemble_checkpoint must be True or False, got assemble_checkpoint=1',
        ),
    ],
)
def test_bad_input_is_refused_with_its_name_and_the_network_left_alone(plan, options, message):
    net = plain()
    with pytest.raises(ValueError, match=message):
        apply_kernel_warehouse(net, plan, **options)
    assert not kw_layers(net) and not hasattr(net, 'warehouses')


@pytest.mark.parametrize(
    'first, second, side', [((16, 32), (16, 27), 'output'), ((32, 16), (27, 16), 'input')]
)
def test_layers_that_share_no_cell_are_refused(first, second, side):
    net = nn.Sequential(nn.Conv2d(*first, 3), nn.Conv2d(*second, 1))
    with pytest.raises(
        ValueError, match=f"warehouse 'a': .*share no cell: .* {side} channels .27, 32."
    ):
        apply_kernel_warehouse(net, {'a': ['0', '1']}, init='published')
    apply_kernel_warehouse(net, {'a': ['0'], 'b': ['1']}, init='published')


@pytest.mark.parametrize('plan', [['0'], {'a': '0'}, {'a': 3}])
def test_a_plan_of_another_form_is_refused(plan):
    with pytest.raises(TypeError):
        apply_kernel_warehouse(plain(), plan, init='published')


def test_a_second_application_is_refused():
    with pytest.raises(ValueError, match='already'):
        apply_kernel_warehouse(network(), PLAN, init='published')


def test_padding_modes_other_than_zeros_are_refused():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'))
    with pytest.raises(ValueError, match='reflect'):
        apply_kernel_warehouse(net, {'a': ['0']}, init='published')


def test_budget_and_cells_of_one_warehouse():
    net = apply_kernel_warehouse(
        plain(),
        {'a': dict(layers=['0', '2'], budget=2, cell_ratio=(1 / 2, 1 / 2)), 'b': ['4']},
        init='published',
    )
    assert net.warehouses['a'].cell_shape == (16, 8) and net.warehouses['a'].num_cells == 2 * (
        36 + 8
    )
    assert net.warehouses['b'].num_cells == 1
    assert isinstance(net[2], KWConv2d)


@torch.no_grad()
def test_the_weights_of_the_network_are_kept():
    net, x = plain().eval(), torch.randn(2, 16, 8, 8)
    expected = net(x)
    apply_kernel_warehouse(net, PLAN, budget=2)
    for temperature in (0, 1):
        net.warehouses.set_temperature(temperature)
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_with_fewer_cells_the_log_says_how_near_the_network_is(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('kw_mm'), 'propagate', True)
    with caplog.at_level('INFO', logger='kw_mm'):
        apply_kernel_warehouse(plain(), PLAN, budget=1 / 2, cell_ratio=(1 / 2, 1 / 2))
    (line,) = caplog.messages
    assert re.search(r'relative error of each warehouse: a \d+\.\d%, b \d+\.\d%', line)


def test_where_weights_cannot_be_kept_a_warning_says_so(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('kw_mm'), 'propagate', True)
    apply_kernel_warehouse(plain(), PLAN, start='all_to_all')
    (line,) = caplog.messages
    assert (
        'random values replace the weights of the network' in line and "start='one_to_one'" in line
    )
