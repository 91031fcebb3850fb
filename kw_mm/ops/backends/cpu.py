"""Convolution image by image into one result: each image's own kernel, with the library's fastest convolution.

Written as one autograd node, since slicing and concatenating would each copy all kernels, and fill
tensors of zeros, in the backward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..patches import Pair, output_size
from ..precision import autocast_dtype

DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
)  # that a CPU's convolution library has kernels for
LEAST_MACS = (
    16_000_000  # of an image; below, what each call costs besides is more than a faster one saves
)


def worth_going_one_by_one(x: Tensor, kernels: Tensor, groups: int, stride: Pair) -> bool:
    """Whether a loop over the images is the fastest: several large ones on a CPU with a library behind its convolutions."""
    macs = kernels.shape[1:].numel() * x.shape[2] * x.shape[3] // (stride[0] * stride[1])
    return (
        groups == 1
        and len(x) > 1
        and macs >= LEAST_MACS
        and x.device.type == 'cpu'
        and x.dtype in DTYPES
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
    )


def convolve_one_by_one(
    x: Tensor, kernels: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Arguments and result are those of :func:`kw_mm.ops.conv2d_per_image`."""
    dtype = autocast_dtype(x.device.type) or x.dtype
    bias = bias if bias is None else bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        return _OneByOne.apply(x.to(dtype), kernels.to(dtype), bias, stride, padding, dilation)


class _OneByOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernels: Tensor, bias: Tensor | None, *geometry: Pair) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.geometry, ctx.bias = geometry, bias is not None
        size = output_size(x.shape[2:], kernels.shape[-2:], *geometry)
        order = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        out = torch.empty(
            (len(x), kernels.shape[1], *size), dtype=x.dtype, device=x.device, memory_format=order
        )
        for i in range(len(x)):
            out[i : i + 1] = F.conv2d(x[i : i + 1], _kernel(kernels[i], x), bias, *geometry)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, kernels = ctx.saved_tensors
        of_x, of_kernels, of_bias = ctx.needs_input_grad[:3]
        into_x = torch.empty_like(x) if of_x else None
        into_kernels = torch.empty_like(kernels) if of_kernels else None
        for i in range(len(x)):
            kernel = _kernel(kernels[i], x)
            one_x, one_kernel = _gradients(
                grad[i : i + 1], x[i : i + 1], kernel, ctx.geometry, (of_x, of_kernels)
            )
            if of_x:
                into_x[i : i + 1] = one_x
            if of_kernels:
                into_kernels[i] = one_kernel
        return (
            into_x,
            into_kernels,
            grad.sum(dim=(0, 2, 3)) if ctx.bias and of_bias else None,
            None,
            None,
            None,
        )


def _kernel(kernel: Tensor, x: Tensor) -> Tensor:
    """An image's kernel. As channels-last it would have contiguous features put in that order, unless they are smaller."""
    if kernel.shape[-2:] == (1, 1):
        return kernel.flatten(1)[..., None, None]
    return (
        kernel
        if is_channels_last(x) or kernel.numel() > x.shape[1:].numel()
        else kernel.contiguous()
    )


def _gradients(
    grad: Tensor, x: Tensor, kernel: Tensor, geometry: tuple[Pair, ...], wanted: tuple[bool, bool]
):
    stride, padding, dilation = geometry
    return torch.ops.aten.convolution_backward(
        grad, x, kernel, None, stride, padding, dilation, False, (0, 0), 1, (*wanted, False)
    )[:2]


def is_channels_last(x: Tensor) -> bool:
    """Whether channels run fastest, also where a stride has left pixels out."""
    return x.stride(1) == 1 and not x.is_contiguous()
