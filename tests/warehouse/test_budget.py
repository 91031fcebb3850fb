from fractions import Fraction

import pytest
import torch

from kw_mm.warehouse.budget import as_budget, num_cells
from kw_mm.warehouse.initialization import beta_of, kaiming_cells_, one_to_one


@pytest.mark.parametrize('value', [0, -1, '1x', True, None, float('nan'), float('inf')])
def test_a_budget_that_is_no_positive_number_is_refused(value):
    with pytest.raises(ValueError, match='budget must be'):
        as_budget(value)


def test_fractions_are_exact():
    assert as_budget(1 / 3) == Fraction(1, 3)
    assert num_cells(1 / 3, 27) == 9


def test_a_budget_without_a_whole_number_of_cells_names_the_nearest_that_have():
    with pytest.raises(
        ValueError, match=r"budget=0.3 .*'stage1' 2.7 cells for its 9 .*2/9 and 3/9"
    ):
        num_cells(0.3, 9, 'stage1')


def test_whole_budget():
    first, second = one_to_one([4, 2], Fraction(2))
    assert first == (0, 8, [[0], [2], [4], [6]])
    assert second == (8, 4, [[8], [10]])


def test_one_over_k_is_diagonal():
    first, second = one_to_one([8, 4], Fraction(1, 4))
    assert first == (0, 2, [[0], [3], [3], [3], [3], [1], [3], [3]])
    assert second == (2, 1, [[2], [3], [3], [3]])


@pytest.mark.parametrize(
    'budget', [Fraction(3, 4), Fraction(1, 2), Fraction(5, 4), Fraction(3, 2), Fraction(5, 12)]
)
def test_other_budgets_give_every_cell_to_at_most_one_mixture(budget):
    mixtures = [9, 3, 12]
    n = int(budget * sum(mixtures))
    starts = one_to_one(mixtures, budget)
    used = [cell for start in starts for (cell,) in start.cells if cell != n]
    assert len(used) == len(set(used)) == min(n, sum(mixtures))
    assert sum(start.num_cells for start in starts) == n
    flat = [cell for start in starts for (cell,) in start.cells]
    for i, cell in enumerate(flat):  # the rule as the documentation states it
        floor, following = int(i * budget // 1), int((i + 1) * budget // 1)
        assert cell == (floor if budget >= 1 or following > floor else n)


def test_beta_has_one_1_in_each_row():
    beta = beta_of(one_to_one([4], Fraction(1, 2))[0], 2)
    assert beta.dtype == torch.float32
    assert beta.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_kaiming_counts_all_cells_of_a_layer():
    cells = kaiming_cells_(torch.empty(64, 18, 64))
    assert cells.std().item() == pytest.approx((2 / (18 * 64)) ** 0.5, rel=0.02)
