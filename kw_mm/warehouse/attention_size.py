"""How large the attention of a plan would be, known before anything is allocated.

Attention to a warehouse takes about hidden x m x (n + 1) values in each layer, so it grows with the
square of the number of cells that kernels are cut into. Layers whose channels have little in common
are cut into single channels or pairs of them: a small network becomes one that no memory holds.
"""

import logging
import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import NamedTuple

from ..ops.branch import hidden_units
from ..ops.partition import CellShape, Partition
from ..validation import check_positive, few
from .budget import num_cells
from .sharing import WarehousePlan

logger = logging.getLogger('kw_mm')

# values; below, a network is small whatever the ratio, since branches have at least 16 hidden units
LEAST_NAMED, LEAST_REFUSED = 1_000_000, 10_000_000


class CutWarehouse(NamedTuple):
    """A warehouse whose layers' kernels are cut into cells, before it has any.

    Args:
        plan: What is planned for it.
        partitions: How each of its layers' kernels is cut.
        num_cells: n.
    """

    plan: WarehousePlan
    partitions: list[Partition]
    num_cells: int

    @classmethod
    def of(cls, name: str, plan: WarehousePlan, partitions: list[Partition]) -> 'CutWarehouse':
        """The warehouse that a plan has, by its name and its layers' partitions.

        Raises:
            ValueError: Its budget gives no whole number of cells.
        """
        mixtures = sum(cut.num_mixtures for cut in partitions)
        return cls(plan, partitions, num_cells(plan.budget, mixtures, name))

    @property
    def kernel_values(self) -> int:
        """Values in the kernels that are mixed from it."""
        return sum(math.prod(cut.kernel_shape) for cut in self.partitions)

    def attention_values(self, channels: Mapping[str, int], reduction: float, basis: float) -> int:
        """Values in the last linear maps of its layers' attention branches, where nearly all are.

        Args:
            channels: Input channels of each layer.
            reduction: Hidden units per input channel.
            basis: ``nonlocal_basis_ratio``.
        """
        total, before, budget = 0, 0, Fraction(self.plan.budget)
        for layer, cut in zip(self.plan.layers, self.partitions):
            m, n = cut.num_mixtures, self.num_cells
            hidden = hidden_units(channels[layer], reduction)
            own = math.floor((before + m) * budget) - math.floor(before * budget)
            before += m
            columns = n if basis == 1 or own == n else own + hidden_units(n - own, basis)
            total += hidden * m * (columns + 1)
        return total


def check_attention(
    warehouses: Mapping[str, CutWarehouse],
    channels: Mapping[str, int],
    *,
    reduction: float,
    basis: float,
    most: float,
) -> None:
    """Check that a network's attention is not many times as large as the kernels that it mixes.

    A small one that is, is named in the log.

    Args:
        warehouses: All of them, by name.
        channels: Input channels of each layer.
        reduction, basis: As in :meth:`CutWarehouse.attention_values`.
        most: How many times as large it may be.

    Raises:
        ValueError: It is; names the numbers, the warehouse and the layers that cause it.
    """
    if most != math.inf:
        check_positive('max_attention', most, "4 is the default, float('inf') allows anything")
    sizes = {
        name: warehouse.attention_values(channels, reduction, basis)
        for name, warehouse in warehouses.items()
    }
    attention = sum(sizes.values())
    kernels = sum(warehouse.kernel_values for warehouse in warehouses.values())
    if attention <= max(most * kernels, LEAST_NAMED):
        return
    name = max(sizes, key=sizes.__getitem__)
    worst = warehouses[name]
    mixtures = sum(cut.num_mixtures for cut in worst.partitions)
    text = (
        f'attention would have {attention:,} values to mix kernels of {kernels:,}, more than '
        f'max_attention={most:g} times as many: most of it in warehouse {name!r}, whose cells have '
        f'{" x ".join(map(str, worst.partitions[0].cell_shape))} channels, so that there are '
        f'{mixtures:,} mixtures of {worst.num_cells:,} cells; {_cause(worst)}'
    )
    if attention > LEAST_REFUSED:
        raise ValueError(text)
    logger.warning(text)


def _cause(warehouse: CutWarehouse) -> str:
    """What to do: the layers without which the others share larger cells, if there are such."""
    others = 'or raise max_attention'
    if tuple(warehouse.plan.cell_ratio) != (1, 1):
        return f'raise cell_ratio={warehouse.plan.cell_ratio}, {others}'
    shapes = {
        name: cut.kernel_shape[:2] for name, cut in zip(warehouse.plan.layers, warehouse.partitions)
    }
    apart = _misfits(shapes)
    if not apart:
        return f'split it or lower the budget, {others}'
    named = [f'{name} ({" x ".join(map(str, shapes[name]))})' for name in apart]
    return (
        f'put {few(named)} into a warehouse of their own, since their channels have little in '
        f'common with the others, {others}'
    )


def _misfits(shapes: Mapping[str, CellShape]) -> list[str]:
    """The layers, at most half of all, without which the others can be cut into larger cells."""
    best, found = _size(shapes.values()), []
    for outputs in _common_divisors({shape[0] for shape in shapes.values()}):
        for inputs in _common_divisors({shape[1] for shape in shapes.values()}):
            apart = [name for name, (o, i) in shapes.items() if o % outputs or i % inputs]
            rest = [shape for name, shape in shapes.items() if name not in apart]
            if 2 * len(apart) <= len(shapes) and _size(rest) > best:
                best, found = _size(rest), apart
    return found


def _common_divisors(channels: Collection[int]) -> set[int]:
    """Numbers and greatest common divisors of two of them."""
    return {math.gcd(one, other) for one in channels for other in channels}


def _size(shapes: Collection[CellShape]) -> int:
    """Values in the largest cell that kernels of such channels can be cut into."""
    outputs, inputs = zip(*shapes)
    return math.gcd(*outputs) * math.gcd(*inputs)
