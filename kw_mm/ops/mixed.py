"""The seam between layers and backends: kernels mixed from cells, and used, in one call.

A layer says what it wants computed. In which dtype cells are mixed, whether kernels are kept for
the backward pass, and in what memory they lie is decided here and in the backends.
"""

from torch import Tensor

from .backends import backend_for
from .conv3d import Geometry3d
from .geometry import Geometry
from .mix import SharedCells
from .partition import Partition


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
    scale: Tensor | None = None,
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
        scale (Tensor, optional): A factor for each output channel of the kernels, shape (C_out, ),
            in inference; multiplies whichever has fewer values, kernels or outputs.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out).
    """
    return backend_for(x).mixed_conv2d(
        x,
        alpha,
        _shared(cells),
        partition,
        bias,
        geometry,
        recompute=recompute,
        keep_format=keep_format,
        scale=scale,
    )


def mixed_conv3d(
    x: Tensor,
    alpha: Tensor,
    cells: SharedCells | Tensor,
    partition: Partition,
    bias: Tensor | None,
    geometry: Geometry3d,
    *,
    recompute: bool = False,
    scale: Tensor | None = None,
) -> Tensor:
    """Convolve every volume with the kernel that is mixed for it.

    Args:
        x (Tensor): Shape (B, C_in, D, H, W).
        alpha, cells, bias, recompute, scale: As in :func:`mixed_conv2d`.
        partition: How the m mixtures make up the kernel, its depth and height being one dimension.
        geometry: Of the convolution.

    Returns:
        Tensor: Shape (B, C_out, D_out, H_out, W_out).
    """
    return backend_for(x).mixed_conv3d(
        x, alpha, _shared(cells), partition, bias, geometry, recompute=recompute, scale=scale
    )


def mixed_linear(
    x: Tensor,
    alpha: Tensor,
    cells: SharedCells | Tensor,
    partition: Partition,
    bias: Tensor | None,
    *,
    recompute: bool = False,
    scale: Tensor | None = None,
) -> Tensor:
    """Apply to every sample the weight matrix that is mixed for it.

    Args:
        x (Tensor): Shape (B, ..., C_in).
        alpha, cells, partition, bias, recompute, scale: As in :func:`mixed_conv2d`; the kernel is
            1x1.

    Returns:
        Tensor: Shape (B, ..., C_out).
    """
    return backend_for(x).mixed_linear(
        x, alpha, _shared(cells), partition, bias, recompute=recompute, scale=scale
    )


def mixed_kernels(alpha: Tensor, cells: SharedCells | Tensor, partition: Partition) -> Tensor:
    """Mix one kernel per image, to be kept.

    Args:
        alpha, cells, partition: As in :func:`mixed_conv2d`.

    Returns:
        Tensor: Shape (B, C_out, C_in / groups, kh, kw).
    """
    return backend_for(alpha).kernels(alpha, _shared(cells), partition)


def _shared(cells: SharedCells | Tensor) -> SharedCells:
    return cells if isinstance(cells, SharedCells) else SharedCells(cells)
