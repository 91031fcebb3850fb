"""Random layers: what is cut is put back, m and n are as the formulas say, the rest is refused.

``pytest tests/ops/test_random_geometries.py --hypothesis-profile search`` tries 3000 new cases of
each.
"""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from kw_mm.warehouse import Partition, apply_kernel_warehouse, common_cell, kw_layers
from kw_mm.warehouse.plain_layers import kernel_shape

WHOLE_BUDGETS = [Fraction(1), Fraction(2), Fraction(4)]
BUDGETS = WHOLE_BUDGETS + [
    Fraction(1, 4),
    Fraction(1, 2),
    Fraction(3, 4),
    Fraction(1, 3),
    Fraction(7, 5),
    Fraction(1, 1000),
]
sides = st.integers(1, 5)
kernel_sizes = st.tuples(sides, sides)


@st.composite
def tiled_kernels(draw):
    """A partition whose cells tile its kernel, 1x1 or larger."""
    blocks, cell = draw(st.tuples(sides, sides)), draw(st.tuples(sides, sides))
    size, cell_size = draw(kernel_sizes), draw(st.sampled_from([(1, 1), (2, 1), (1, 3)]))
    channels = tuple(b * c for b, c in zip(blocks, cell))
    return Partition((*channels, *(k * c for k, c in zip(size, cell_size))), cell, cell_size)


@st.composite
def layers(draw):
    """Up to four convolutions or linear layers, in most cases with a common divisor."""
    found, common = [], draw(st.sampled_from([2, 3, 4, 1]))
    for _ in range(draw(st.integers(1, 4))):
        groups = draw(st.integers(1, 2))
        channels = [groups * common * draw(st.integers(1, 4)) for _ in range(2)]
        if draw(st.booleans()):
            size = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
            found.append(nn.Conv2d(*channels, size, groups=groups, padding=2))
        else:
            found.append(nn.Linear(*channels))
    return found


def put(plain, **options):
    """A network of these layers, all on one warehouse."""
    network = nn.ModuleList(plain)
    return apply_kernel_warehouse(
        network,
        {'all': [str(i) for i in range(len(plain))]},
        attention_norm='LN',
        **options,
        init='published',
    )


def numbers(plain, ratio=(1, 1)):
    """The cell and every layer's m, from the formulas of the paper's Sec. 3.2 and 3.3."""
    shapes = [kernel_shape(layer) for layer in plain]
    cell = [math.gcd(*(shape[side] for shape in shapes)) * ratio[side] for side in (0, 1)]
    return cell, [int(out / cell[0] * (inp / cell[1]) * kh * kw) for out, inp, kh, kw in shapes]


def share_cells(plain):
    """Whether the channels of the layers have a divisor above 1, where they are more than one."""
    sides = list(zip(*map(kernel_shape, plain)))[:2]
    return all(math.gcd(*side) > 1 or max(side) == 1 for side in sides)


def is_one_sentence(error):
    text = str(error.value)
    return '\n' not in text and 20 < len(text) < 400


@given(tiled_kernels(), st.integers(1, 3))
def test_cutting_and_putting_together_are_exact_inverses(partition, batch):
    kernel = torch.randn(batch, *partition.kernel_shape)
    cells = partition.to_cells(kernel)
    assert cells.shape == (
        batch,
        partition.num_mixtures,
        *partition.cell_shape,
        *partition.cell_size,
    )
    assert torch.equal(partition.to_kernel(cells), kernel)
    assert torch.equal(partition.to_cells(partition.to_kernel(cells)), cells)
    mixed = cells.flatten(0, 1).flatten(2).transpose(0, 1)  # as a warehouse's product gives them
    assert torch.equal(partition.assemble(mixed), kernel)
    cell = math.prod(partition.cell_shape) * math.prod(partition.cell_size)
    assert partition.num_mixtures * cell == math.prod(partition.kernel_shape)


@given(tiled_kernels(), st.integers(0, 3))
def test_cells_that_do_not_tile_are_refused(partition, side):
    shape = list(partition.kernel_shape)
    part = (*partition.cell_shape, *partition.cell_size)[side]
    assume(part > 1)
    shape[side] += 1
    with pytest.raises(ValueError, match='do not tile') as error:
        Partition(tuple(shape), partition.cell_shape, partition.cell_size)
    assert is_one_sentence(error)


@given(layers(), st.sampled_from(BUDGETS))
def test_mixtures_and_cells_are_what_the_formulas_say(plain, budget):
    if not share_cells(plain):
        with pytest.raises(ValueError, match='share no cell') as error:
            put(plain, budget=budget)
        assert is_one_sentence(error)
        return
    cell, mixtures = numbers(plain)
    cells = budget * sum(mixtures)
    if cells.denominator > 1:
        with pytest.raises(ValueError, match='gives warehouse .* cells for its') as error:
            put(plain, budget=budget)
        assert is_one_sentence(error)
        return
    network = put(plain, budget=budget)
    warehouse, put_layers = network.warehouses['all'], kw_layers(network).values()
    assert warehouse.num_cells == cells and list(warehouse.cell_shape) == cell
    assert list(warehouse.cells.shape) == [cells, *cell]
    assert [layer.partition.num_mixtures for layer in put_layers] == mixtures
    assert [list(layer.attention.beta.shape) for layer in put_layers] == [
        [m, cells + 1] for m in mixtures
    ]
    beta = torch.cat([layer.attention.beta for layer in put_layers])  # (m_t, n + 1)
    assert torch.equal(beta.sum(dim=1), torch.ones(sum(mixtures)))
    owners = beta[:, :-1].sum(dim=0)
    assert owners.max() == 1 and int(owners.sum()) == min(cells, sum(mixtures))


@given(layers(), st.sampled_from(WHOLE_BUDGETS), st.integers(1, 3))
def test_at_temperature_1_layers_are_the_plain_ones(plain, budget, batch):
    assume(share_cells(plain))
    inputs = [
        torch.randn(batch, layer.in_channels, 3, 2)
        if isinstance(layer, nn.Conv2d)
        else torch.randn(batch, 3, layer.in_features)
        for layer in plain
    ]
    kernels = [layer.weight.detach().clone() for layer in plain]
    expected = [layer(x) for layer, x in zip(plain, inputs)]
    network = put(plain, budget=budget)
    network.warehouses.set_temperature(1)
    for layer, kernel in zip(kw_layers(network).values(), kernels):
        layer.place_kernel(kernel)
    for layer, x, out in zip(kw_layers(network).values(), inputs, expected):
        torch.testing.assert_close(layer(x), out, rtol=1e-4, atol=1e-4)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_a_share_of_the_common_divisor_is_a_cell_or_refused(channels, parts):
    shapes = [(*pair, 1, 1) for pair in channels]
    divisors = [math.gcd(*side) for side in zip(*channels)]
    ratio = tuple(Fraction(1, part) for part in parts)
    if all(divisor % part == 0 for divisor, part in zip(divisors, parts)):
        assert common_cell(shapes, ratio) == tuple(
            divisor // part for divisor, part in zip(divisors, parts)
        )
        return
    with pytest.raises(ValueError, match='cell_ratio .* is not a divisor of') as error:
        common_cell(shapes, ratio)
    assert is_one_sentence(error)


@given(
    layers(),
    st.one_of(
        st.floats(max_value=0), st.sampled_from([True, '1x', None, float('nan'), float('inf')])
    ),
)
def test_what_is_no_budget_is_refused(plain, budget):
    with pytest.raises(
        ValueError, match='budget must be a positive number, got .*; use for example'
    ) as error:
        put(plain, budget=budget)
    assert is_one_sentence(error)
