from fractions import Fraction

import pytest
import torch
from torch import nn

from kw_mm.warehouse import KernelAttention, ReducedKernelAttention, contrasting_attention
from kw_mm.warehouse.initialization import beta_of, one_to_one
from kw_mm.warehouse.kernel_attention import hidden_units

START = one_to_one([4, 2], Fraction(2))[1]
CELLS = 12


def naive(logits, beta, tau):
    alpha = torch.empty_like(logits)
    for b in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            total = sum(abs(z) for z in logits[b, i].tolist()) + 1e-3
            for j in range(logits.shape[2]):
                alpha[b, i, j] = tau * beta[i, j] + (1 - tau) * logits[b, i, j] / total
    return alpha


@pytest.mark.parametrize('tau', [0, 0.37, 0.8, 1])
def test_contrasting_attention_is_the_papers_equation(tau):
    logits, beta = torch.randn(2, 2, CELLS + 1), beta_of(START, CELLS)
    torch.testing.assert_close(
        contrasting_attention(logits, beta, torch.tensor(float(tau))), naive(logits, beta, tau)
    )


def test_at_temperature_1_attention_is_exactly_beta():
    logits, beta = torch.randn(2, 2, CELLS + 1) * 1e4, beta_of(START, CELLS)
    assert torch.equal(contrasting_attention(logits, beta, torch.ones(()))[1], beta)


def test_all_zero_logits_give_no_attention_and_finite_gradients():
    logits = torch.zeros(1, 2, CELLS + 1, requires_grad=True)
    alpha = contrasting_attention(logits, beta_of(START, CELLS), torch.zeros(()))
    alpha.sum().backward()
    assert (alpha == 0).all() and logits.grad.isfinite().all()


def test_sums_are_float32_in_half_precision():
    logits = torch.full(
        (1, 1, 4000), 30.0, dtype=torch.float16
    )  # the sum, 120000, overflows float16
    alpha = contrasting_attention(logits, torch.zeros(1, 4000), torch.zeros(()))
    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha, torch.full_like(alpha, 1 / 4000), rtol=1e-4, atol=0)


def test_under_autocast():
    attention = KernelAttention(32, START, CELLS).eval()
    pooled = torch.randn(3, 32)
    expected = attention(pooled, torch.zeros(()))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = attention(pooled, torch.zeros(()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    'channels, reduction, expected', [(64, 1 / 16, 16), (512, 1 / 16, 32), (1280, 1 / 32, 40)]
)
def test_hidden_units(channels, reduction, expected):
    assert hidden_units(channels, reduction) == expected


def test_one_image_with_batch_norm_in_training_names_the_ways_out():
    attention = KernelAttention(32, START, CELLS)
    with pytest.raises(ValueError) as error:
        attention(torch.randn(1, 32), torch.zeros(()))
    for way_out in ('norm_eval', "'LN'", 'SyncBN', '2 or more images'):
        assert way_out in str(error.value)
    attention.norm1.eval()
    assert attention(torch.randn(1, 32), torch.zeros(())).shape == (1, 2, CELLS)


@pytest.mark.parametrize(
    'norm, bias',
    [('BN1d', False), ('SyncBN', False), ('LN', True), ('none', True), (nn.LayerNorm, True)],
)
def test_normalisation_is_an_option(norm, bias):
    attention = KernelAttention(32, START, CELLS, norm=norm)
    assert (attention.fc1.bias is not None) == bias
    if norm != 'SyncBN':
        assert attention(torch.randn(2, 32), torch.zeros(())).shape == (2, 2, CELLS)


def test_one_image_trains_with_layer_norm():
    KernelAttention(32, START, CELLS, norm='LN')(
        torch.randn(1, 32), torch.zeros(())
    ).sum().backward()


def test_unknown_normalisation_is_refused():
    with pytest.raises(
        ValueError,
        match="attention_norm must be one of 'BN1d', 'SyncBN', 'LN'.*, got attention_norm='BN3d'",
    ):
        KernelAttention(32, START, CELLS, norm='BN3d')


def test_reduced_attention_puts_the_layers_own_cells_in_their_place():
    attention = ReducedKernelAttention(32, START, CELLS, nonlocal_basis_ratio=1 / 16).eval()
    nn.init.zeros_(attention.fc3.weight)  # nothing to other layers' cells
    alpha = attention(torch.randn(2, 32), torch.zeros(()))
    own = slice(START.first_cell, START.first_cell + START.num_cells)
    assert (alpha[..., own] != 0).all()
    assert (alpha[..., : own.start] == 0).all() and (alpha[..., own.stop :] == 0).all()
