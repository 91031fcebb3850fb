"""Operators on a GPU with kernels of our own, in Triton.

Differences from :mod:`kw_mm.ops.backends.cuda`: cells are mixed by one product that writes kernels
in the order in which they are read, with gradients likewise, those of the cells added up in place
in float32; an attention branch takes two launches after pooling; and where
:mod:`~kw_mm.ops.backends.cuda_limits` says so, the images of a batch are convolved in one launch.
What the kernels cannot do (float64, cells larger than 1x1, other norms, ...) is left to the parent.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import one_line
from ..branch import ContrastingBranch
from ..float32 import is_exact
from ..geometry import Geometry
from ..mix import Products, SharedCells, is_shared, mix_shared, mixing_dtype, needs_gradients
from ..partition import Partition
from ..precision import autocast_dtype, without_autocast
from ..tracing import is_traced
from ..triton_ops.branch_kernels import MOST_COLUMNS, MOST_IMAGES, AttendEagerly, attend, run_attend
from ..triton_ops.conv_kernels import ConvolveEagerly, conv
from ..triton_ops.launching import PRODUCT_DTYPES
from ..triton_ops.mixing_kernels import (
    mix,
    run_add_mix_by_cells,
    run_mix,
    run_mix_by_cells,
    run_mix_by_rows,
)
from .cuda import CudaBackend
from .cuda_limits import MIXES_EXACT_FLOAT32, MOST_POSITIONS_IN_TRITON
from .torch import is_channels_last

LEAST_CAPABILITY = (8, 0)  # bfloat16 products
logger = logging.getLogger('kw_mm')


def runs_here() -> bool:
    """Whether a kernel compiles and starts on the current GPU; if not, the log says why."""
    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        return False
    try:
        rows, cells = (torch.zeros(size, device='cuda') for size in ((1, 16), (16, 16, 16)))
        mix(rows, cells, [16, 16, 1, 1, 16, 16], torch.bfloat16)
    except Exception as error:  # a compiler that is missing, a driver that is too old, ...
        logger.warning('Triton does not run here, so torch only is used: %s', one_line(error)[:300])
        return False
    return True


class TritonBackend(CudaBackend):
    """Kernels of our own for mixing, attention branches and, up to a size, convolutions.

    Args:
        most_positions: Positions of an output up to which several images are convolved by Triton.
        exact: Whether to mix in float32 while torch is set to multiply it exactly.
    """

    def __init__(
        self, most_positions: float = MOST_POSITIONS_IN_TRITON, exact: bool = MIXES_EXACT_FLOAT32
    ):
        self.most_positions, self.exact = most_positions, exact

    def attend(self, pooled: Tensor, branch: ContrastingBranch) -> Tensor | None:
        """Attention (B, m, n) of a branch; None where its own layers are as good."""
        fc1, norm, fc2, beta, temperature, count, eps = branch
        if not is_plain_branch(pooled, fc1, norm, fc2, beta):
            return None
        assert isinstance(norm, nn.BatchNorm1d)
        of_batch = norm.training
        alpha: Tensor
        alpha, _, _, _, mean, variance = _attend_now(pooled)(
            pooled,
            fc1.weight,
            norm.weight,
            norm.bias,
            norm.running_mean,
            norm.running_var,
            fc2.weight,
            fc2.bias,
            beta,
            temperature,
            of_batch,
            norm.eps,
            eps,
            count,
        )
        if of_batch:
            count_batch(norm, mean, variance, len(pooled))
        return alpha

    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Kernels (B, C_out, C_in / groups, kh, kw) from attention (B, m, n)."""
        dtype = mixing_dtype(cells.values)
        if (
            dtype not in PRODUCT_DTYPES
            or cells.values.shape[2] == 1
            or partition.cell_size != (1, 1)
            or (alpha.is_cuda and not self.exact and is_exact(dtype))
        ):
            return super().kernels(alpha, cells, partition, transient=transient)
        cut = [*partition.kernel_shape, *partition.cell_shape]
        if is_shared(alpha, cells) and is_real(alpha):
            kernels = mix_shared(alpha, cells, dtype, FusedProducts(cut, dtype))
        else:
            rows = alpha.flatten(0, 1).to(torch.float32)
            eager = not needs_gradients(alpha, cells.values) and is_real(alpha)
            kernels = (run_mix if eager else mix)(rows, cells.values, cut, dtype)
        return kernels.permute(0, 1, 4, 2, 3)

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
        dtype = autocast_dtype(x.device.type) or x.dtype
        pads = geometry.pads
        height, width = geometry.output_size(x.shape[2:])
        if (
            geometry.is_pointwise
            or geometry.groups != 1
            or pads is None
            or dtype not in PRODUCT_DTYPES
            or len(x) == 1
            or not is_channels_last(x)  # others would be loaded element by element
            or height * width > self.most_positions
        ):
            return super().conv2d(x, kernels, bias, geometry, keep_format=keep_format)
        spans = [*geometry.stride, *pads, *geometry.dilation]
        with without_autocast(x.device.type):
            run = ConvolveEagerly.apply if is_real(x) else conv
            out: Tensor = run(x.to(dtype), kernels.to(dtype), bias, spans)
            return out


class FusedProducts(Products):
    """Mixing and its gradients as single launches that know where kernels lie.

    Args:
        cut: (C_out, C_in / groups, kh, kw, cell_out, cell_in).
        dtype: To mix in.
    """

    def __init__(self, cut: list[int], dtype: torch.dtype):
        self.cut, self.dtype = cut, dtype

    def rows(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Attention, shape (B m, n), in float32: it is rounded where it is multiplied."""
        return rows.to(torch.float32)

    def mix(self, rows: Tensor, cells: Tensor) -> Tensor:
        """Kernels, shape (B, C_out, kh, kw, C_in / groups)."""
        kernels: Tensor = run_mix(rows, cells, self.cut, self.dtype)
        return kernels

    def composite(self, rows: Tensor, cells: Tensor, dtype: torch.dtype) -> Tensor:
        """What :meth:`mix` gives, in operators whose gradients have gradients."""
        out_channels, in_channels, height, width, cell_out, cell_in = self.cut
        grid = height, width, out_channels // cell_out, in_channels // cell_in
        mixtures = super().composite(rows, cells, dtype)  # (cell_out, B m, cell_in)
        placed = mixtures.view(cell_out, -1, *grid, cell_in).permute(1, 4, 0, 2, 3, 5, 6)
        return placed.reshape(-1, out_channels, height, width, in_channels)

    def gradient(self, grad: Tensor) -> Tensor:
        """The kernels' gradient in whatever strides it comes."""
        return grad

    def by_rows(self, grad: Tensor, cells: Tensor) -> Tensor:
        """The attention's gradient, shape (B m, n)."""
        by_rows: Tensor = run_mix_by_rows(grad, cells, self.cut)
        return by_rows

    def by_cells(
        self, rows: Tensor, grad: Tensor, dtype: torch.dtype, total: Tensor | None
    ) -> Tensor:
        """The cells' gradient, shape (cell_out, n, cell_in), added to what there is, in place."""
        if total is None:
            share: Tensor = run_mix_by_cells(rows, grad, self.cut)
            return share.to(dtype)
        if total.dtype == torch.float32:
            run_add_mix_by_cells(total, rows, grad, self.cut)
            return total
        return total.add_(run_mix_by_cells(rows, grad, self.cut))


def is_real(x: Tensor) -> bool:
    """Whether kernels can be started at once: nothing is traced, and tensors have contents."""
    return type(x) is Tensor and not is_traced()


def _attend_now(pooled: Tensor) -> Any:
    """What computes attention: a compiler's operator, or in eager mode the launches themselves."""
    if not is_real(pooled):
        return attend
    return AttendEagerly.apply if torch.is_grad_enabled() else run_attend


def is_plain_branch(
    pooled: Tensor, fc1: nn.Module, norm: nn.Module, fc2: nn.Module, beta: Tensor
) -> bool:
    """Whether a branch is linear, batch norm, linear, in float32, and nobody looks inside."""
    return (
        type(fc1) is nn.Linear
        and type(fc2) is nn.Linear
        and type(norm) is nn.BatchNorm1d
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and fc1.bias is None
        and fc2.bias is not None
        and pooled.dtype == fc1.weight.dtype == norm.weight.dtype == fc2.weight.dtype
        and pooled.dtype == torch.float32
        and len(pooled) <= MOST_IMAGES
        and beta.shape[1] <= MOST_COLUMNS
        and not any(has_hooks(module) for module in (fc1, norm, fc2))
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether something wants to see a module's inputs or outputs."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


@torch.no_grad()
def count_batch(norm: Any, mean: Tensor, variance: Tensor, batch: int) -> None:
    """Move a batch norm's running statistics as its own forward would."""
    unbiased = variance * (batch / (batch - 1))
    running = [norm.running_mean, norm.running_var]
    torch._foreach_lerp_(running, [mean, unbiased], norm.momentum)
    norm.num_batches_tracked.add_(1)
