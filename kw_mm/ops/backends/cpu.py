"""Operators on a CPU, and every number that was fitted on one.

Differences from :mod:`kw_mm.ops.backends.torch`: several images are convolved in turn where each is
enough work, since oneDNN's convolution computes two to three times as fast as a batched matrix
product; a single image's 1x1 convolution is left to oneDNN too; kernels that nobody keeps are mixed
into memory that is used again. ``docs/performance.md`` has the measurements.
"""

import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Geometry
from ..mix import SharedCells, product
from ..partition import Partition
from ..precision import autocast_dtype, without_autocast
from ..reference import grouped_conv2d
from ..twice import composite_gradients, is_recorded
from .torch import TorchBackend, is_channels_last, single, strided

# oneDNN has convolutions for these
CONVOLVED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Multiply-adds of one image; below, what each call costs is more than a faster one saves.
WORTH_A_CALL = 16_000_000
# glibc maps allocations above this anew each time, and the kernel zeroes their pages.
MAPPED_BYTES = 32 * 2**20


class CpuBackend(TorchBackend):
    """The composite operators, except where a CPU's libraries have something faster."""

    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Kernels (B, C_out, C_in / groups, kh, kw) from attention (B, m, n)."""
        if not transient or torch.is_grad_enabled():  # features' gradients need kernels, too
            return super().kernels(alpha, cells, partition)
        dtype = autocast_dtype('cpu') or cells.values.dtype
        rows, values = alpha.flatten(0, 1).to(dtype), cells.values.to(dtype)
        shape = values.shape[1], len(rows), values.shape[2]
        recycle = values.shape[2] > 1 and is_worth_recycling(shape, values)
        out = recycled_memory(shape, dtype) if recycle else None
        return partition.assemble(product(rows, values, out))

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
        if is_worth_a_call_each(x, kernels, geometry):
            return convolve_in_turn(x, kernels, bias, geometry)
        if geometry.is_pointwise and len(x) == 1:
            seen = strided(x, geometry)
            if max(seen.shape[1], kernels.shape[1]) * _area(seen) < MAPPED_BYTES:
                return single(seen, kernels, bias, Geometry((1, 1)), keep_format)
        return super().conv2d(x, kernels, bias, geometry, keep_format=keep_format)


def _area(x: Tensor) -> int:
    """Bytes of one channel."""
    return x.shape[2] * x.shape[3] * x.element_size()


def is_worth_a_call_each(x: Tensor, kernels: Tensor, geometry: Geometry) -> bool:
    """Whether convolving the images in turn is fastest: several, large, with oneDNN behind."""
    down, right = geometry.stride
    macs = kernels.shape[1:].numel() * x.shape[2] * x.shape[3] // (down * right)
    return (
        geometry.groups == 1
        and geometry.pads is not None
        and len(x) > 1
        and macs >= WORTH_A_CALL
        and x.dtype in CONVOLVED_DTYPES
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


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


class _Recycled(threading.local):
    """One piece of memory for each thread and dtype.

    A thread's, not a context's: contexts are copied into threads, which would then write over each
    other's kernels.
    """

    def __init__(self) -> None:
        self.pieces: dict[torch.dtype, Tensor] = {}


_recycled = _Recycled()


def recycled_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, valid until the thread's next call with that dtype.

    Only large ones are worth it: to map and zero their pages takes longer than to mix cells into
    them.
    """
    pieces, size = _recycled.pieces, math.prod(shape)
    if dtype not in pieces or pieces[dtype].numel() < size:
        pieces.pop(dtype, None)
        with torch.inference_mode(False):  # else nobody could write to it outside of inference mode
            pieces[dtype] = torch.empty(size, dtype=dtype, device='cpu')  # whatever the default
    return pieces[dtype][:size].view(*shape)


def is_worth_recycling(shape: Sequence[int], like: Tensor) -> bool:
    """Whether a tensor of this shape, and another's dtype, is mapped anew at every allocation.

    Memory without contents, as under torch's ``FakeTensorMode``, is none to keep.
    """
    large = math.prod(shape) * like.element_size() >= MAPPED_BYTES
    has_contents = type(like) in (Tensor, nn.Parameter) and type(torch.empty(0)) is Tensor
    return large and has_contents
