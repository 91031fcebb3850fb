"""Attention functions: from a branch's logits to weights of cells (paper, Sec. 3.4).

The published one is the contrasting-driven attention function (CAF). The others are those of the
paper's ablation; each replaces only CAF's z-part, the temperature blends it with beta as always.
"""

from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-3


def contrasting(logits: Tensor) -> Tensor:
    """z_ij / (sum_p |z_ip| + 1e-3): signed, and bounded by 1 in sum."""
    return logits / (logits.abs().sum(dim=-1, keepdim=True) + EPS)


def softmax(logits: Tensor) -> Tensor:
    """exp(z_ij) / sum_p exp(z_ip), as in DY-Conv."""
    return logits.softmax(dim=-1)


def sigmoid(logits: Tensor) -> Tensor:
    """1 / (1 + exp(-z_ij)), every cell for itself, as in CondConv."""
    return logits.sigmoid()


def rectified(logits: Tensor) -> Tensor:
    """max(z_ij, 0) / (sum_p max(z_ip, 0) + 1e-3): CAF without its negative side."""
    positive = logits.relu()
    return positive / (positive.sum(dim=-1, keepdim=True) + EPS)


def unnormalised(logits: Tensor) -> Tensor:
    """z_ij itself.

    CAF without the division by sum_p |z_ip|. Dividing by sum_p z_ip instead would be no
    alternative: the sum of signed logits passes through zero.
    """
    return logits


ATTENTION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'caf': contrasting,
    'softmax': softmax,
    'sigmoid': sigmoid,
    'relu': rectified,
    'caf_unnormalised': unnormalised,
}


def weigh_cells(logits: Tensor, beta: Tensor, temperature: Tensor, function: str = 'caf') -> Tensor:
    """alpha_ij = tau beta_ij + (1 - tau) f(z_i)_j, in float32 or better.

    Args:
        logits (Tensor): z, shape (B, m, n + 1), the last column belonging to the zero cell, or (B,
            m, n) without one.
        beta (Tensor): Start attention, shape (m, n + 1) or (m, n).
        temperature (Tensor): tau, a scalar.
        function: f, a name in ``ATTENTION_FUNCTIONS``.

    Returns:
        Tensor: alpha, float32 (float64 for float64 logits), of the logits' shape.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weights = ATTENTION_FUNCTIONS[function](logits)
    return torch.lerp(weights, beta.to(logits).expand_as(logits), temperature.to(logits))


def contrasting_attention(logits: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
    """CAF: tau beta_ij + (1 - tau) z_ij / (sum_p |z_ip| + 1e-3); see :func:`weigh_cells`."""
    return weigh_cells(logits, beta, temperature)
