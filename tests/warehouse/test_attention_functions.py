import math

import pytest
import torch

from kw_mm.warehouse import KernelAttention, ReducedKernelAttention
from kw_mm.warehouse.attention_functions import ATTENTION_FUNCTIONS, weigh_cells
from kw_mm.warehouse.initialization import Start

EQUATIONS = {
    'caf': lambda z, row: z / (sum(abs(p) for p in row) + 1e-3),
    'softmax': lambda z, row: math.exp(z) / sum(math.exp(p) for p in row),
    'sigmoid': lambda z, row: 1 / (1 + math.exp(-z)),
    'relu': lambda z, row: max(z, 0) / (sum(max(p, 0) for p in row) + 1e-3),
    'caf_unnormalised': lambda z, row: z,
}
START = Start(2, 2, [[2], [3], [4]])


def test_every_function_has_an_equation_here():
    assert set(EQUATIONS) == set(ATTENTION_FUNCTIONS)


@pytest.mark.parametrize('tau', [0, 0.37, 1])
@pytest.mark.parametrize('name', ATTENTION_FUNCTIONS)
def test_functions_follow_their_equations_and_blend_with_beta(name, tau):
    logits, beta = 3 * torch.randn(2, 3, 5), torch.eye(3, 5)
    found = weigh_cells(logits, beta, torch.tensor(float(tau)), name)
    for image in range(2):
        for i in range(3):
            row = logits[image, i].tolist()
            expected = [
                tau * float(beta[i, j]) + (1 - tau) * EQUATIONS[name](z, row)
                for j, z in enumerate(row)
            ]
            assert found[image, i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('name', ATTENTION_FUNCTIONS)
def test_functions_are_finite_at_zero_and_float32_in_half_precision(name):
    logits = torch.zeros(1, 2, 4, dtype=torch.float16, requires_grad=True)
    alpha = weigh_cells(logits, torch.zeros(2, 4), torch.zeros(()), name)
    alpha.sum().backward()
    assert alpha.dtype == torch.float32 and alpha.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.parametrize('zero_cell', [True, False])
def test_the_zero_cell_takes_attention_only_where_there_is_one(zero_cell):
    attention = KernelAttention(32, START, 4, function='softmax', zero_cell=zero_cell)
    alpha = attention(torch.randn(2, 32), torch.zeros(()))
    assert alpha.shape == (2, 3, 4)
    assert bool((alpha.sum(dim=-1) < 0.999).all()) == zero_cell
    assert attention.beta.shape == (3, 4 + zero_cell)
    assert attention.fc2.out_features == 3 * (4 + zero_cell)


def test_reduced_attention_without_a_zero_cell():
    attention = ReducedKernelAttention(
        32, START, 4, nonlocal_basis_ratio=1 / 4, zero_cell=False, function='softmax'
    )
    alpha = attention(torch.randn(2, 32), torch.zeros(()))
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(2, 3))


def test_unknown_functions_are_refused():
    with pytest.raises(
        ValueError,
        match="attention_function must be one of 'caf', 'softmax'.*, got attention_function='tanh'",
    ):
        KernelAttention(32, START, 4, function='tanh')
