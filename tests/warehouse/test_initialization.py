"""Starts other than the published one; that one is in test_budget.py."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse
from kw_mm.warehouse.initialization import STARTS, Start, beta_of, kaiming_cells_, why_not_plain

# start, mixtures of the layers, budget: start cells of each layer's mixtures
EXPECTED = [
    ('all_to_all', [2, 1], 1, [[[0, 1, 2], [0, 1, 2]], [[0, 1, 2]]]),
    ('several_cells', [2, 1], 3, [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8]]]),
    ('several_cells', [2, 2], Fraction(3, 2), [[[0], [1, 2]], [[3], [4, 5]]]),
    ('shared_cell', [4, 2], Fraction(1, 2), [[[0], [0], [1], [1]], [[2], [2]]]),
    ('none', [2, 1], 1, [[[], []], [[]]]),
]


@pytest.mark.parametrize('start, mixtures, budget, cells', EXPECTED)
def test_start_cells(start, mixtures, budget, cells):
    starts = STARTS[start](mixtures, Fraction(budget))
    assert [[list(mixture) for mixture in layer.cells] for layer in starts] == cells
    assert [layer.num_cells for layer in starts] == [m * budget for m in mixtures]
    assert [layer.first_cell for layer in starts] == [0, mixtures[0] * budget]


@pytest.mark.parametrize('start', ['several_cells', 'shared_cell'])
def test_at_budget_1_they_are_one_to_one(start):
    found, expected = (STARTS[name]([3, 5], Fraction(1)) for name in (start, 'one_to_one'))
    assert all(
        torch.equal(beta_of(mine, 8), beta_of(other, 8)) for mine, other in zip(found, expected)
    )


@pytest.mark.parametrize(
    'start, mixtures, budget, message',
    [
        ('several_cells', [4, 2], Fraction(1, 2), 'a budget of 1 or more .*, got 1/2; below'),
        ('shared_cell', [4, 2], Fraction(2), 'a budget 1/k'),
        ('shared_cell', [4, 2], Fraction(3, 4), 'a budget 1/k'),
        ('shared_cell', [3, 3], Fraction(1, 2), r'1/2 does not divide \[3, 3\]'),
    ],
)
def test_budgets_that_a_start_cannot_serve_are_refused(start, mixtures, budget, message):
    with pytest.raises(ValueError, match=message):
        STARTS[start](mixtures, budget)


@pytest.mark.parametrize(
    'start, budget', [('all_to_all', 1), ('several_cells', 2), ('shared_cell', 1 / 4), ('none', 1)]
)
def test_at_temperature_1_a_kernel_is_the_sum_of_its_start_cells(start, budget):
    net = apply_kernel_warehouse(
        nn.Sequential(nn.Conv2d(8, 8, 2)),
        {'all': ['0']},
        cell_ratio=(1 / 2, 1),
        budget=budget,
        start=start,
        init='published',
    ).eval()
    layer = net[0]
    net.warehouses.set_temperature(1)
    cells = STARTS[start]([8], Fraction(budget))[0].cells
    mixtures = torch.stack(
        [
            sum((layer.warehouse.listed[j] for j in mixture), torch.zeros(4, 8, 1, 1))
            for mixture in cells
        ]
    )
    x = torch.randn(2, 8, 5, 5)
    expected = nn.functional.conv2d(x, layer.partition.to_kernel(mixtures), layer.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'start, budget, reason',
    [
        ('all_to_all', 1, 'start from the same cell'),
        ('several_cells', 2, 'start from several cells each'),
        ('shared_cell', 1 / 2, 'start from the same cell'),
        ('none', 1, 'no start cell of their own'),
        ('one_to_one', 1 / 2, 'no start cell of their own'),
    ],
)
@pytest.mark.parametrize('zero_cell', [True, False])
def test_plain_kernels_are_refused_where_they_would_not_be_exact(start, budget, reason, zero_cell):
    options = dict(budget=budget, start=start, zero_cell=zero_cell, cell_ratio=(1 / 2, 1))
    net = apply_kernel_warehouse(
        nn.Sequential(nn.Conv2d(8, 8, 2)), {'all': ['0']}, **options, init='published'
    )
    before = net[0].cells.detach().clone()
    with pytest.raises(ValueError, match=reason):
        net[0].place_kernel(torch.zeros(8, 8, 2, 2))
    assert torch.equal(net[0].cells, before)
    with pytest.raises(ValueError, match=reason):
        apply_kernel_warehouse(
            nn.Sequential(nn.Conv2d(8, 8, 2)), {'all': ['0']}, init='plain', **options
        )


def test_plain_kernels_fit_one_cell_for_each_mixture():
    start = Start(0, 6, [[0], [2], [4]])
    assert why_not_plain(start, 6) == ''


def test_with_fewer_cells_than_mixtures_the_zero_cell_will_do():
    start = Start(0, 1, [[0], [1]])
    assert 'no start cell of their own' in why_not_plain(start, 1)
    assert why_not_plain(start, 1, fewer_cells=True) == ''
    assert 'no start cell' in why_not_plain(Start(0, 1, [[], []]), 1, fewer_cells=True)


def test_kaiming_counts_the_size_of_cells():
    cells = kaiming_cells_(torch.empty(64, 2, 64 * 9), positions=9)
    assert cells.std().item() == pytest.approx((2 / (2 * 64 * 9)) ** 0.5, rel=0.02)
