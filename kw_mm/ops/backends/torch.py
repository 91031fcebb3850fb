"""Composite operators of torch, on any device and under torch.compile.

Which of the equivalent computations a layer takes follows from its geometry and the size of its
input; ``docs/performance.md`` has the measurements behind each choice.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Geometry
from ..interface import Backend
from ..linear import linear_per_image
from ..mix import SharedCells, mix_cells
from ..partition import Partition
from ..pool import average, average_and_pass
from ..reference import grouped_conv2d
from ..tracing import is_traced
from ..twice import composite_gradients, is_recorded


class TorchBackend(Backend):
    """1x1: a matrix product; few positions: patches and a matrix product; else grouped."""

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Global average (B, C) of features (B, C, H, W), and the features, to be used once."""
        return (average(x), x) if is_traced() else average_and_pass(x)

    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Kernels (B, C_out, C_in / groups, kh, kw) from attention (B, m, n)."""
        return partition.assemble(mix_cells(alpha, cells))

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
        if geometry.is_pointwise:
            return pointwise(strided(x, geometry), kernels, bias)
        if len(x) == 1:
            return single(x, kernels, bias, geometry, keep_format)
        if fits_patches(x, kernels, geometry):
            return multiply_patches(x, kernels, bias, geometry)
        return grouped_conv2d(x, in_order_of(x, kernels), bias, geometry)


def strided(x: Tensor, geometry: Geometry) -> Tensor:
    """What a 1x1 convolution sees of its input."""
    down, right = geometry.stride
    return x if geometry.stride == (1, 1) else x[:, :, ::down, ::right]


def pointwise(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """1x1 convolution as one batched matrix product; channels-last where ``x`` is."""
    weights = kernels.flatten(2)  # (B, C_out, C_in)
    if is_channels_last(x):
        return linear_per_image(x.permute(0, 2, 3, 1), weights, bias).permute(0, 3, 1, 2)
    out = torch.bmm(weights, x.flatten(2))
    out = out if bias is None else out + bias.to(out.dtype).view(1, -1, 1)
    maps: Tensor = out.unflatten(2, x.shape[2:])
    return maps


def single(
    x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry, keep_format: bool
) -> Tensor:
    """A single image: its kernel is everyone's, there is nothing to fold or to group."""
    kernels = in_order_of(x, kernels) if keep_format else kernels
    return F.conv2d(
        x,
        kernels.squeeze(0),
        bias,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.groups,
    )


def fits_patches(x: Tensor, kernels: Tensor, geometry: Geometry) -> bool:
    """Whether reading the kernels outweighs writing out the patches: positions < C_out."""
    if geometry.groups != 1 or geometry.pads is None:
        return False
    height, width = geometry.output_size(x.shape[2:])
    return height * width <= kernels.shape[1]


def multiply_patches(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Patches and one batched matrix product."""
    patches: Tensor = Patches.apply(x, geometry)  # (B, kh kw C_in, H_out W_out)
    rows = kernels.permute(0, 1, 3, 4, 2).flatten(2)  # (B, C_out, kh kw C_in)
    out = torch.bmm(rows, patches)
    out = out if bias is None else out + bias.to(out.dtype).view(1, -1, 1)
    maps: Tensor = out.unflatten(2, geometry.output_size(x.shape[2:]))
    return maps.contiguous(memory_format=torch.channels_last) if is_channels_last(x) else maps


class Patches(torch.autograd.Function):
    """(B, C, H, W) -> (B, kh kw C, H_out W_out), for padding that is equal on both sides.

    Unlike :func:`torch.nn.functional.unfold`, whose channels run slowest, a kernel of memory order
    (C_out, kh, kw, C_in), as it is assembled from cells, multiplies it as it is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: Geometry) -> Tensor:
        ctx.geometry, ctx.shape = geometry, x.shape
        return patches_of(x, geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        geometry: Geometry = ctx.geometry
        batch, channels, height, width = ctx.shape
        left, right, top, bottom = geometry.sides
        rows, columns = geometry.output_size((height, width))
        if is_recorded():
            zeros = torch.zeros(ctx.shape, dtype=grad.dtype, device=grad.device)
            taken = partial(patches_of, geometry=geometry)
            (of_x,) = composite_gradients(taken, [zeros.requires_grad_()], grad)
            return of_x, None
        padded = grad.new_zeros(batch, channels, height + top + bottom, width + left + right)
        windows = grad.reshape(batch, *geometry.kernel_size, channels, rows, columns)
        for i in range(geometry.kernel_size[0]):
            for j in range(geometry.kernel_size[1]):
                down = positions(i * geometry.dilation[0], rows, geometry.stride[0])
                across = positions(j * geometry.dilation[1], columns, geometry.stride[1])
                padded[:, :, down, across].add_(windows[:, i, j])
        return padded[:, :, top : top + height, left : left + width], None


def patches_of(x: Tensor, geometry: Geometry) -> Tensor:
    """(B, C, H, W) -> (B, kh kw C, H_out W_out), as :class:`Patches` computes it."""
    height, width = geometry.output_size(x.shape[2:])
    (down, right), (v, h) = geometry.stride, geometry.dilation
    padded = F.pad(x, geometry.sides)
    image, channel, row, column = padded.stride()
    windows = padded.as_strided(
        (len(x), *geometry.kernel_size, x.shape[1], height, width),
        (image, row * v, column * h, channel, row * down, column * right),
    )
    return windows.reshape(len(x), -1, height * width)


def positions(first: int, count: int, step: int) -> slice:
    """``count`` positions from the first on, in steps."""
    return slice(first, first + (count - 1) * step + 1, step)


def in_order_of(x: Tensor, kernels: Tensor) -> Tensor:
    """Kernels contiguous where the features are: results would be channels-last otherwise."""
    return kernels if is_channels_last(x) else kernels.reshape(-1).view(kernels.shape)


def is_channels_last(x: Tensor) -> bool:
    """Whether channels run fastest, also where a stride has left pixels out."""
    return x.stride(1) == 1 and not x.is_contiguous()
