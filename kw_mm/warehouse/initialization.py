"""Which cell each mixture starts from, and the first values of the cells.

At temperature 1 the attention is beta: in the published start, mixture i *is* its start cell. Index
n stands for the zero cell e_z. The other starts are those of the paper's ablation (its Table 13).
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor


class Start(NamedTuple):
    """The cells a layer starts from.

    Args:
        first_cell: The first of the warehouse's cells that belong to the layer.
        num_cells: How many cells belong to it.
        cells: Start cells of each mixture, each at weight 1; n stands for the zero cell.
    """

    first_cell: int
    num_cells: int
    cells: list[Sequence[int]]


def one_to_one(mixtures: Sequence[int], budget: Fraction) -> list[Start]:
    """Give every mixture its own start cell while they last, then the zero cell (Sec. 3.4).

    The published rules cover whole b (mixture i of a layer starts at the layer's first cell + i b)
    and b = 1/k where every layer's m is a multiple of k (mixture i gets the next free cell when
    ``i % k == (i // k) % k``). For any other budget the rule is ours: over all mixtures of the
    warehouse, cell ``floor(i b)`` for b >= 1, and for b < 1 the next cell where
    ``floor((i + 1) b) > floor(i b)``.

    Args:
        mixtures: m of every layer that draws on the warehouse, in plan order.
        budget: b, with b sum(m) whole.

    Returns:
        list[Start]: One for each layer.
    """
    k, zero_cell = budget.denominator, int(budget * sum(mixtures))
    diagonal = budget.numerator == 1 and all(m % k == 0 for m in mixtures)

    def cells_of(offset: int, i: int) -> list[int]:
        cell, following = math.floor((offset + i) * budget), math.floor((offset + i + 1) * budget)
        own = i % k == (i // k) % k if diagonal else following > cell
        return [cell if own else zero_cell]

    return _starts(mixtures, budget, cells_of)


def all_to_all(mixtures: Sequence[int], budget: Fraction) -> list[Start]:
    """Let every mixture start from all n cells. Arguments and result as in :func:`one_to_one`."""
    return _starts(mixtures, budget, lambda offset, i: range(int(budget * sum(mixtures))))


def several_cells(mixtures: Sequence[int], budget: Fraction) -> list[Start]:
    """Let every mixture start from b cells of its own. Arguments as in :func:`one_to_one`.

    Raises:
        ValueError: A budget below 1.
    """
    if budget < 1:
        raise ValueError(
            "start='several_cells' needs a budget of 1 or more (cells for every mixture), got "
            f"{budget}; below, 'one_to_one' and 'shared_cell' work"
        )
    return _starts(
        mixtures,
        budget,
        lambda offset, i: range(
            math.floor((offset + i) * budget), math.floor((offset + i + 1) * budget)
        ),
    )


def shared_cell(mixtures: Sequence[int], budget: Fraction) -> list[Start]:
    """Let k = 1 / b neighbouring mixtures of a layer start from the same cell.

    Arguments and result as in :func:`one_to_one`.

    Raises:
        ValueError: A budget other than 1/k with every layer's m a multiple of k.
    """
    k = budget.denominator
    if budget.numerator != 1 or any(m % k for m in mixtures):
        raise ValueError(
            f"start='shared_cell' needs a budget 1/k with k dividing the mixtures of every layer; "
            f"{budget} does not divide {list(mixtures)} so, 'one_to_one' works for it"
        )
    return _starts(mixtures, budget, lambda offset, i: [(offset + i) // k])


def no_start(mixtures: Sequence[int], budget: Fraction) -> list[Start]:
    """Let no mixture start from any cell: beta = 0. Arguments as in :func:`one_to_one`."""
    return _starts(mixtures, budget, lambda offset, i: [])


STARTS: dict[str, Callable[[Sequence[int], Fraction], list[Start]]] = {
    'one_to_one': one_to_one,
    'all_to_all': all_to_all,
    'several_cells': several_cells,
    'shared_cell': shared_cell,
    'none': no_start,
}


def _starts(
    mixtures: Sequence[int], budget: Fraction, cells_of: Callable[[int, int], Sequence[int]]
) -> list[Start]:
    """Starts from ``cells_of(offset, i)``, of mixture i after ``offset`` in other layers."""
    starts, offset = [], 0
    for m in mixtures:
        first, last = math.floor(offset * budget), math.floor((offset + m) * budget)
        starts.append(Start(first, last - first, [cells_of(offset, i) for i in range(m)]))
        offset += m
    return starts


def beta_of(start: Start, num_cells: int, zero_cell: bool = True) -> Tensor:
    """beta, shape (m, n + 1), or (m, n) without a zero cell: 1 for a mixture's start cells."""
    beta = torch.zeros(len(start.cells), num_cells + 1)
    for row, cells in zip(beta, start.cells):
        row[torch.tensor(cells, dtype=torch.long)] = 1
    return beta if zero_cell else beta[:, :num_cells].contiguous()


def why_not_plain(start: Start, num_cells: int, fewer_cells: bool = False) -> str:
    """Why plain kernels cannot be placed in a layer's start cells; empty where they can.

    They can where every mixture starts from exactly one cell, and from one that no other mixture of
    the layer has.

    Args:
        start: Start cells of the layer's mixtures.
        num_cells: n.
        fewer_cells: Whether the zero cell will do, too, since there are fewer cells than mixtures.
    """
    of_cells = beta_of(start, num_cells, zero_cell=False)
    if bool((of_cells.sum(dim=0) > 1).any()):
        return 'several of its mixtures start from the same cell'
    if bool((of_cells.sum(dim=1) > 1).any()):
        return 'its mixtures start from several cells each'
    if not all(start.cells) or not fewer_cells and bool((of_cells.sum(dim=1) < 1).any()):
        return 'some of its mixtures have no start cell of their own (budget < 1, or no start)'
    return ''


@torch.no_grad()
def kaiming_cells_(cells: Tensor, positions: int = 1) -> Tensor:
    """Fill the cells that belong to one layer as published.

    That is Kaiming normal, fan-out over all of them stacked.

    Args:
        cells (Tensor): Shape (b m, cell_out, cell_in cell_h cell_w).
        positions: cell_h cell_w.
    """
    fan_out = cells.shape[0] * cells.shape[1] * positions
    if fan_out:
        cells.transpose(0, 1).normal_(0, math.sqrt(2 / fan_out))
    return cells


@torch.no_grad()
def kaiming_kernel(kernel_shape: Sequence[int]) -> Tensor:
    """A plain kernel with OpenMMLab's default start: Kaiming normal, fan-out."""
    out_channels, _, height, width = kernel_shape
    return torch.randn(kernel_shape) * math.sqrt(2 / (out_channels * height * width))
