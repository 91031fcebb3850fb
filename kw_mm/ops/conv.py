"""Convolution in which every image of the batch has its own kernel."""

from torch import Tensor

from .backends import backend_for
from .geometry import Geometry, Size


def conv2d_per_image(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    keep_format: bool = True,
) -> Tensor:
    """Convolve image b of the batch with kernel b.

    Args:
        x (Tensor): Features, shape (B, C_in, H, W), contiguous or channels-last.
        kernels (Tensor): One kernel per image, shape (B, C_out, C_in / groups, kh, kw), of any
            strides.
        bias (Tensor, optional): Shared by all images, shape (C_out, ).
        stride, padding, dilation, groups: As in :func:`torch.nn.functional.conv2d`.
        keep_format: Whether the result must be contiguous or channels-last as ``x`` is. Of a single
            image it otherwise takes the kernel's order, which is faster for kernels mixed from
            cells.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out).

    Raises:
        ValueError: An unknown padding.

    Example:
        >>> x, kernels = torch.rand(2, 8, 16, 16), torch.rand(2, 4, 8, 3, 3)
        >>> conv2d_per_image(x, kernels, padding=1).shape
        torch.Size([2, 4, 16, 16])
    """
    size = [int(side) for side in kernels.shape[-2:]]  # a tracer makes tensors of them
    geometry = Geometry.of(size, stride, padding, dilation, groups)
    return convolve(x, kernels, bias, geometry, keep_format=keep_format)


def convolve(
    x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry, *, keep_format: bool = True
) -> Tensor:
    """:func:`conv2d_per_image` for a layer, which makes its geometry once."""
    return backend_for(x).conv2d(x, kernels, bias, geometry, keep_format=keep_format)
