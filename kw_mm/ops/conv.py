"""Convolution and linear maps in which every image of the batch has its own kernel.

Which of the equivalent computations a layer takes follows from its geometry alone;
``docs/performance.md`` has the measurements behind each choice.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from .backends.cpu import convolve_one_by_one, is_channels_last, worth_going_one_by_one
from .backends.torch import exported_conv2d
from .patches import Patches, output_size
from .reference import Size, grouped_conv2d, on_reference_path
from .tracing import is_exported, is_traced

MAPPED_BYTES = (
    32 * 2**20
)  # allocations above this are mapped, and their pages zeroed, anew each time (glibc)


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
    """
    if on_reference_path():
        return grouped_conv2d(x, kernels, bias, stride, padding, dilation, groups)
    if is_exported():
        return exported_conv2d(x, kernels, bias, stride, padding, dilation, groups)
    size, stride, dilation = tuple(kernels.shape[-2:]), _pair(stride), _pair(dilation)
    pads = _symmetric(padding, size, dilation)
    if pads is not None and worth_going_one_by_one(x, kernels, groups, stride) and not is_traced():
        return convolve_one_by_one(x, kernels, bias, stride, pads, dilation)
    if groups == 1 and size == (1, 1) and pads == (0, 0):
        x = x if stride == (1, 1) else x[:, :, :: stride[0], :: stride[1]]
        if not _one_convolution(x, kernels):
            return pointwise_per_image(x, kernels.flatten(2), bias)
        stride = (1, 1)
    if len(x) == 1:  # its kernel is everyone's: nothing to fold or to group
        kernels = _in_order_of(x, kernels) if keep_format else kernels
        return F.conv2d(x, kernels.squeeze(0), bias, stride, padding, dilation, groups)
    if (
        groups == 1
        and pads is not None
        and _patches_are_smaller(x, kernels, stride, pads, dilation)
    ):
        return _multiply_patches(x, kernels, bias, stride, pads, dilation)
    return grouped_conv2d(x, _in_order_of(x, kernels), bias, stride, padding, dilation, groups)


def _in_order_of(x: Tensor, kernels: Tensor) -> Tensor:
    """Kernels with the strides of contiguous ones where the features are: otherwise the result is channels-last."""
    return kernels if is_channels_last(x) else kernels.reshape(-1).view(kernels.shape)


def _symmetric(
    padding: Size | str, size: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int] | None:
    """Padding on both sides as numbers; None where the sides differ."""
    if padding == 'valid':
        return (0, 0)
    if padding == 'same':
        total = [d * (k - 1) for k, d in zip(size, dilation)]
        return None if any(t % 2 for t in total) else tuple(t // 2 for t in total)
    return _pair(padding)


def _one_convolution(x: Tensor, kernels: Tensor) -> bool:
    """Whether a 1x1 convolution is left to the convolution library: a single image on a CPU without its big temporaries."""
    largest = max(x.shape[1], kernels.shape[1]) * x.shape[2] * x.shape[3] * x.element_size()
    return len(x) == 1 and x.device.type == 'cpu' and largest < MAPPED_BYTES


def _patches_are_smaller(x: Tensor, kernels: Tensor, stride, padding, dilation) -> bool:
    """Whether reading the kernels outweighs writing out the patches: C_out output channels, fewer positions."""
    height, width = output_size(x.shape[2:], kernels.shape[-2:], stride, padding, dilation)
    return height * width <= kernels.shape[1]


def pointwise_per_image(x: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution with one weight matrix per image, as one batched matrix product.

    Args:
        x (Tensor): Shape (B, C_in, H, W).
        weights (Tensor): Shape (B, C_out, C_in).
        bias (Tensor, optional): Shape (C_out, ).

    Returns:
        Tensor: Shape (B, C_out, H, W), channels-last where ``x`` is.
    """
    if is_channels_last(x):
        return linear_per_image(x.permute(0, 2, 3, 1), weights, bias).permute(0, 3, 1, 2)
    out = torch.bmm(weights, x.flatten(2))
    out = out if bias is None else out + bias.to(out.dtype).view(1, -1, 1)
    return out.unflatten(2, x.shape[2:])


def _multiply_patches(
    x: Tensor, kernels: Tensor, bias: Tensor | None, stride, padding, dilation
) -> Tensor:
    size = tuple(kernels.shape[-2:])
    patches = Patches.apply(x, size, stride, padding, dilation)  # (B, kh kw C_in, H_out W_out)
    rows = kernels.permute(0, 1, 3, 4, 2).flatten(2)  # (B, C_out, kh kw C_in)
    out = torch.bmm(rows, patches)
    out = out if bias is None else out + bias.to(out.dtype).view(1, -1, 1)
    out = out.unflatten(2, output_size(x.shape[2:], size, stride, padding, dilation))
    return out.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else out


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
