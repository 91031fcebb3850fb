"""Which cell each mixture starts from, and the first values of the cells.

At temperature 1 the attention is beta: mixture i *is* its start cell. Index n stands for the zero cell e_z.
"""
import math
from fractions import Fraction
from typing import List, NamedTuple, Sequence

import torch
from torch import Tensor


class Start(NamedTuple):
    """The cells a layer starts from.

    Args:
        first_cell: The first of the warehouse's cells that belong to the layer.
        num_cells: How many cells belong to it.
        cells: Start cell of each mixture; n for the zero cell.
    """
    first_cell: int
    num_cells: int
    cells: List[int]


def one_to_one(mixtures: Sequence[int], budget: Fraction) -> List[Start]:
    """Give every mixture its own start cell while there are enough, else the zero cell (paper, Sec. 3.4).

    The published rules cover whole b (mixture i of a layer starts at the layer's first cell + i b) and b = 1/k where
    every layer's m is a multiple of k (mixture i gets the next free cell when ``i % k == (i // k) % k``). For any
    other budget the rule is ours: over all mixtures of the warehouse, cell ``floor(i b)`` for b >= 1, and for b < 1
    the next cell where ``floor((i + 1) b) > floor(i b)``.

    Args:
        mixtures: m of every layer that draws on the warehouse, in plan order.
        budget: b, with b sum(m) whole.

    Returns:
        list[Start]: One for each layer.
    """
    total = int(budget * sum(mixtures))
    diagonal = budget.numerator == 1 and all(m % budget.denominator == 0 for m in mixtures)
    starts, offset = [], 0
    for m in mixtures:
        first, last = math.floor(offset * budget), math.floor((offset + m) * budget)
        if budget >= 1:
            cells = [math.floor((offset + i) * budget) for i in range(m)]
        elif diagonal:
            cells = _diagonal(m, budget.denominator, first, total)
        else:
            cells = [_next_cell(offset + i, budget, total) for i in range(m)]
        starts.append(Start(first, last - first, cells))
        offset += m
    return starts


def _diagonal(m: int, k: int, first: int, zero_cell: int) -> List[int]:
    return [first + i // k if i % k == (i // k) % k else zero_cell for i in range(m)]


def _next_cell(i: int, budget: Fraction, zero_cell: int) -> int:
    cell = math.floor(i * budget)
    return cell if math.floor((i + 1) * budget) > cell else zero_cell


def beta_of(start: Start, num_cells: int) -> Tensor:
    """beta as a float tensor of shape (m, n + 1), one 1 in each row."""
    beta = torch.zeros(len(start.cells), num_cells + 1)
    beta[torch.arange(len(start.cells)), torch.tensor(start.cells)] = 1
    return beta


@torch.no_grad()
def kaiming_cells_(cells: Tensor) -> Tensor:
    """Fill the cells that belong to one layer as published: Kaiming normal, fan-out over all of them stacked.

    Args:
        cells (Tensor): Shape (cell_out, b m, cell_in).
    """
    fan_out = cells.shape[0] * cells.shape[1]
    return cells.normal_(0, math.sqrt(2 / fan_out)) if fan_out else cells


@torch.no_grad()
def kaiming_kernel(kernel_shape: Sequence[int]) -> Tensor:
    """A plain kernel with OpenMMLab's default start: Kaiming normal, fan-out."""
    out_channels, _, height, width = kernel_shape
    return torch.randn(kernel_shape) * math.sqrt(2 / (out_channels * height * width))
