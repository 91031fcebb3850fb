"""Operators on a GPU with what torch has: no grouped convolution where there is another way.

A library's convolution with groups = batch is known to be slow there: the published algorithm was
reported at 27 times the plain network's time. So 1x1 convolutions are one batched matrix product;
of larger kernels, few images are convolved one after the other, many by patches and one batched
matrix product, in whose order (channels-last) the patches are written. In float32, as torch is set
by default, convolutions have the matrix unit (TF32) and products have not: there few images are
convolved one after the other by 1x1 kernels, too. The numbers are in
:mod:`kw_mm.ops.backends.cuda_limits`.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..float32 import is_convolved_faster
from ..geometry import Geometry
from ..linear import linear_per_image
from ..precision import autocast_dtype
from ..reference import grouped_conv2d
from ..tracing import is_traced
from ..twice import composite_gradients, is_recorded
from .cuda_limits import MOST_IN_TURN, MOST_PATCHES
from .in_turn import convolve_in_turn
from .torch import (
    TorchBackend,
    fits_patches,
    in_order_of,
    is_channels_last,
    multiply_patches,
    pointwise,
    positions,
    single,
    strided,
)


class CudaBackend(TorchBackend):
    """1x1: a matrix product; else few images: in turn; many: patches and a matrix product."""

    def conv2d(
        self,
        x: Tensor,
        kernels: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        *,
        keep_format: bool = True,
    ) -> Tensor:
        """Convolve image b with kernel b, see :func:`kw_mm.ops.convolve`."""
        if geometry.is_pointwise and not is_convolved(x):
            return pointwise(strided(x, geometry), kernels, bias)
        if len(x) == 1:
            return single(x, kernels, bias, geometry, keep_format)
        if geometry.groups != 1 or geometry.pads is None:
            return grouped_conv2d(x, in_order_of(x, kernels), bias, geometry)
        if is_traced():  # what is compiled serves batches of any size
            few_positions = fits_patches(x, kernels, geometry)
            in_windows = is_channels_last(x) or few_positions
        else:
            in_windows = len(x) > MOST_IN_TURN and patch_bytes(x, geometry) <= MOST_PATCHES
            if not in_windows:
                return convolve_in_turn(x, kernels, bias, geometry)
        if not in_windows:
            return grouped_conv2d(x, in_order_of(x, kernels), bias, geometry)
        multiply = multiply_windows if is_channels_last(x) else multiply_patches
        return multiply(x, kernels, bias, geometry)


def is_convolved(x: Tensor) -> bool:
    """Whether 1x1 kernels are left to convolutions, for the matrix unit's sake."""
    dtype = autocast_dtype(x.device.type) or x.dtype
    return (
        x.is_cuda
        and not is_traced()
        and len(x) <= MOST_IN_TURN
        and is_convolved_faster(dtype, x.device)
    )


def patch_bytes(x: Tensor, geometry: Geometry) -> int:
    """Bytes of the patches of a batch."""
    height, width = geometry.output_size(x.shape[2:])
    area = geometry.kernel_size[0] * geometry.kernel_size[1]
    return len(x) * height * width * area * x.shape[1] * x.element_size()


def multiply_windows(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Patches of channels-last features and one batched matrix product, channels-last again."""
    windows: Tensor = Windows.apply(x, geometry)  # (B, H_out W_out, kh kw C_in)
    rows = kernels.permute(0, 1, 3, 4, 2).flatten(2)  # (B, C_out, kh kw C_in)
    out = linear_per_image(windows, rows, bias)
    maps: Tensor = out.unflatten(1, geometry.output_size(x.shape[2:])).permute(0, 3, 1, 2)
    return maps


class Windows(torch.autograd.Function):
    """(B, C, H, W) in channels-last -> (B, H_out W_out, kh kw C), for padding equal on both sides.

    As :class:`~kw_mm.ops.backends.torch.Patches`, with channels fastest on both sides of the copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: Geometry) -> Tensor:
        ctx.geometry, ctx.shape = geometry, x.shape
        return windows_of(x, geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        geometry: Geometry = ctx.geometry
        batch, channels, height, width = ctx.shape
        if is_recorded():
            zeros = torch.zeros(ctx.shape, dtype=grad.dtype, device=grad.device)
            taken = partial(windows_of, geometry=geometry)
            (of_x,) = composite_gradients(taken, [zeros.requires_grad_()], grad)
            return of_x, None
        left, right, top, bottom = geometry.sides
        rows, columns = geometry.output_size((height, width))
        padded = grad.new_zeros(batch, height + top + bottom, width + left + right, channels)
        windows = grad.reshape(batch, rows, columns, *geometry.kernel_size, channels)
        for i in range(geometry.kernel_size[0]):
            for j in range(geometry.kernel_size[1]):
                down = positions(i * geometry.dilation[0], rows, geometry.stride[0])
                across = positions(j * geometry.dilation[1], columns, geometry.stride[1])
                padded[:, down, across].add_(windows[:, :, :, i, j])
        inside = padded[:, top : top + height, left : left + width]
        return inside.permute(0, 3, 1, 2), None


def windows_of(x: Tensor, geometry: Geometry) -> Tensor:
    """(B, C, H, W) -> (B, H_out W_out, kh kw C), as :class:`Windows` computes it."""
    height, width = geometry.output_size(x.shape[2:])
    (down, right), (v, h) = geometry.stride, geometry.dilation
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *geometry.sides))  # (B, H, W, C)
    image, row, column, channel = padded.stride()
    windows = padded.as_strided(
        (len(x), height, width, *geometry.kernel_size, x.shape[1]),
        (image, row * down, column * right, row * v, column * h, channel),
    )
    return windows.reshape(len(x), height * width, -1)
