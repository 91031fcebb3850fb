"""Operators on a CPU, and every number that was fitted on one.

Differences from :mod:`kw_mm.ops.backends.torch`: several images are convolved in turn where each is
enough work, since oneDNN's convolution computes two to three times as fast as a batched matrix
product; a single image's 1x1 convolution is left to oneDNN too; kernels that nobody keeps are mixed
into memory that is used again. ``docs/performance.md`` has the measurements.
"""

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..geometry import Geometry
from ..mix import SharedCells, product
from ..partition import Partition
from ..precision import autocast_dtype
from .in_turn import convolve_in_turn
from .torch import TorchBackend, single, strided

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
