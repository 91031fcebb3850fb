"""The seam between layers and backends: kernels mixed from cells, and used, in one call.

A layer says what it wants computed. In which dtype cells are mixed, whether kernels are kept for
the backward pass, and in what memory they lie is decided here and in the backends.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .backends import Backend, backend_for
from .geometry import Geometry
from .linear import linear_per_image
from .mix import SharedCells
from .partition import Partition
from .precision import autocast_dtype
from .recompute import kernels_recomputed
from .tracing import is_traced


def mixed_conv2d(
    x: Tensor,
    alpha: Tensor,
    cells: SharedCells | Tensor,
    partition: Partition,
    bias: Tensor | None,
    geometry: Geometry,
    *,
    recompute: bool = False,
    keep_format: bool = True,
) -> Tensor:
    """Convolve every image with the kernel that is mixed for it.

    Args:
        x (Tensor): Features, shape (B, C_in, H, W).
        alpha (Tensor): Attention of every mixture to every cell, shape (B, m, n).
        cells: Shape (n, cell_out, cell_in), by themselves or as a warehouse shares them.
        partition: How the m mixtures make up the kernel.
        bias (Tensor, optional): Shape (C_out, ).
        geometry: Of the convolution.
        recompute: Whether kernels are mixed again in the backward pass instead of kept.
        keep_format: As in :func:`kw_mm.ops.conv2d_per_image`.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out).
    """
    cells = cells if isinstance(cells, SharedCells) else SharedCells(cells)
    backend = backend_for(x)
    fused = getattr(backend, 'mixed_conv2d', None)
    if fused is not None:
        out: Tensor = fused(
            x, alpha, cells, partition, bias, geometry, recompute=recompute, keep_format=keep_format
        )
        return out

    def use(kernels: Tensor) -> Tensor:
        return backend.conv2d(x, kernels, bias, geometry, keep_format=keep_format)

    return _with_kernels(backend, x, alpha, cells, partition, use, recompute)


def mixed_linear(
    x: Tensor,
    alpha: Tensor,
    cells: SharedCells | Tensor,
    partition: Partition,
    bias: Tensor | None,
    *,
    recompute: bool = False,
) -> Tensor:
    """Apply to every sample the weight matrix that is mixed for it.

    Args:
        x (Tensor): Shape (B, ..., C_in).
        alpha, cells, partition, bias, recompute: As in :func:`mixed_conv2d`; the kernel is 1x1.

    Returns:
        Tensor: Shape (B, ..., C_out).
    """
    cells = cells if isinstance(cells, SharedCells) else SharedCells(cells)

    def use(kernels: Tensor) -> Tensor:
        return linear_per_image(x, kernels.flatten(2), bias)

    return _with_kernels(backend_for(x), x, alpha, cells, partition, use, recompute)


def mixed_kernels(alpha: Tensor, cells: SharedCells | Tensor, partition: Partition) -> Tensor:
    """Mix one kernel per image, to be kept.

    Args:
        alpha, cells, partition: As in :func:`mixed_conv2d`.

    Returns:
        Tensor: Shape (B, C_out, C_in / groups, kh, kw).
    """
    cells = cells if isinstance(cells, SharedCells) else SharedCells(cells)
    return backend_for(alpha).kernels(alpha, cells, partition)


def _with_kernels(
    backend: Backend,
    x: Tensor,
    alpha: Tensor,
    cells: SharedCells,
    partition: Partition,
    use: Callable[[Tensor], Tensor],
    recompute: bool,
) -> Tensor:
    mix = partial(backend.kernels, cells=cells, partition=partition)
    kernels = mix(alpha, transient=True)
    if autocast_dtype(x.device.type) is None:
        kernels = kernels.to(x.dtype)  # of cells stored in lower precision
    if not (recompute and kernels.requires_grad) or is_traced():
        return use(kernels)
    weights, dtype = alpha.detach(), kernels.dtype

    def mix_again() -> Tensor:
        with torch.no_grad():
            return mix(weights).to(dtype)

    with kernels_recomputed(kernels, mix_again):
        return use(kernels)
