"""Several images convolved one after the other, as one node of autograd's."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Geometry
from ..precision import autocast_dtype, without_autocast
from ..reference import grouped_conv2d
from ..twice import composite_gradients, is_recorded
from .torch import is_channels_last


def convolve_in_turn(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolve image after image into one result. Arguments as in :func:`kw_mm.ops.convolve`."""
    dtype = autocast_dtype(x.device.type) or x.dtype
    bias = bias if bias is None else bias.to(dtype)
    with without_autocast(x.device.type):
        out: Tensor = _ConvolveInTurn.apply(x.to(dtype), kernels.to(dtype), bias, geometry)
        return out


class _ConvolveInTurn(torch.autograd.Function):
    """One node for all images.

    Slicing and concatenating would each copy all kernels, and fill tensors of zeros, in the
    backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.geometry, ctx.bias = geometry, bias is not None
        size = len(x), kernels.shape[1], *geometry.output_size(x.shape[2:])
        order = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=order)
        stride, pads, dilation = geometry.stride, geometry.pads or (0, 0), geometry.dilation
        for i in range(len(x)):
            kernel = _kernel(kernels[i], x)
            out[i : i + 1] = F.conv2d(x[i : i + 1], kernel, bias, stride, pads, dilation)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernels = ctx.saved_tensors
        of_x, of_kernels, of_bias = ctx.needs_input_grad[:3]
        into_bias = grad.sum(dim=(0, 2, 3)) if ctx.bias and of_bias else None
        if is_recorded():
            convolved = partial(grouped_conv2d, bias=None, geometry=ctx.geometry)
            return *composite_gradients(convolved, (x, kernels), grad), into_bias, None
        into_x = torch.empty_like(x) if of_x else None
        into_kernels = torch.empty_like(kernels) if of_kernels else None
        for i in range(len(x)):
            one_x, one_kernel, _ = torch.ops.aten.convolution_backward(
                grad[i : i + 1],
                x[i : i + 1],
                _kernel(kernels[i], x),
                None,
                ctx.geometry.stride,
                ctx.geometry.pads,
                ctx.geometry.dilation,
                False,
                (0, 0),
                1,
                (of_x, of_kernels, False),
            )
            if into_x is not None:
                into_x[i : i + 1] = one_x
            if into_kernels is not None:
                into_kernels[i] = one_kernel
        return into_x, into_kernels, into_bias, None


def _kernel(kernel: Tensor, x: Tensor) -> Tensor:
    """An image's kernel in the order that costs least.

    A channels-last kernel has contiguous features copied into that order, so it is put in theirs
    where it is smaller than they are.
    """
    if kernel.shape[-2:] == (1, 1):
        return kernel.flatten(1)[..., None, None]
    keep = is_channels_last(x) or kernel.numel() > x.shape[1:].numel()
    return kernel if keep else kernel.contiguous()
