"""Global average pooling of features that are used on."""

from typing import Any

import torch
from torch import Tensor

from .precision import averaging_dtype
from .twice import is_recorded


def average(x: Tensor) -> Tensor:
    """Global average, shape (B, C), of features (B, C, H, W); float32 under autocast."""
    return x.mean(dim=(2, 3), dtype=averaging_dtype(x))


def average_and_pass(x: Tensor) -> tuple[Tensor, Tensor]:
    """Global average, shape (B, C), of features (B, C, H, W), and the features.

    The features returned are for one use, a convolution: their gradient is changed in place.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        pooled, passed = _AverageAndPass.apply(x)
        return pooled, passed
    return average(x), x


class _AverageAndPass(torch.autograd.Function):
    """Both gradients meet here: the pooled one is spread in place, not in a tensor of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.area = x.shape[2] * x.shape[3]
        ctx.size, ctx.dtype = x.shape, x.dtype
        return average(x), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, of_pooled: Tensor | None, of_x: Tensor | None) -> Tensor | None:
        if of_pooled is None:
            return of_x
        share = (of_pooled / ctx.area)[..., None, None]
        if of_x is not None and is_recorded():
            both: Tensor = of_x + share.to(ctx.dtype)
            return both
        return share.to(ctx.dtype).expand(ctx.size) if of_x is None else of_x.add_(share)
