"""Linear maps in which every sample of the batch has its own matrix."""

import torch
from torch import Tensor


def linear_per_image(x: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply weight matrix b to sample b.

    Args:
        x (Tensor): Shape (B, ..., C_in).
        weights (Tensor): One matrix per sample, shape (B, C_out, C_in).
        bias (Tensor, optional): Shared by all samples, shape (C_out, ).

    Returns:
        Tensor: Shape (B, ..., C_out).
    """
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])  # (B, T, C_in)
    out = torch.bmm(tokens, weights.transpose(1, 2)).reshape(*x.shape[:-1], weights.shape[1])
    return out if bias is None else out + bias.to(out.dtype)
