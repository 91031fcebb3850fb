"""The budget b = n / m_t: cells that a warehouse holds per mixture (paper, Sec. 3.3)."""

from fractions import Fraction

from ..validation import check_positive

Budget = int | float | Fraction


def as_budget(value: Budget) -> Fraction:
    """Read a budget exactly.

    Raises:
        ValueError: Not a finite positive number.
    """
    check_positive('budget', value, 'use for example 0.25, 0.5, 1, 2 or 4')
    return Fraction(value).limit_denominator(10_000)


def num_cells(budget: Budget, num_mixtures: int, warehouse: str = '') -> int:
    """n = b m_t, which must be whole.

    Args:
        budget: b.
        num_mixtures: m_t, mixtures of all layers drawing on the warehouse.
        warehouse: Its name, for the error.

    Raises:
        ValueError: b m_t is not a whole number.
    """
    cells = as_budget(budget) * num_mixtures
    if cells.denominator == 1:
        return int(cells)
    below, above = max(int(cells), 1), int(cells) + 1
    raise ValueError(
        f'budget={float(budget):g} gives warehouse {warehouse!r} {float(cells):g} cells for its '
        f'{num_mixtures} mixtures; the nearest budgets with a whole number are '
        f'{below}/{num_mixtures} and {above}/{num_mixtures}, 1/2, 1, 2 and 4 are the published ones'
    )
