"""What a backend computes, and how it does so unless it has something better."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .branch import ContrastingBranch
from .conv3d import Geometry3d, grouped_conv3d
from .geometry import Geometry
from .linear import linear_per_image
from .mix import SharedCells
from .partition import Partition
from .precision import autocast_dtype
from .recompute import kernels_recomputed
from .tracing import is_exported, is_traced


class Backend(ABC):
    """One way to compute the per-image operators.

    Layers call ``pool``, ``mixed_conv2d`` and ``mixed_linear``. The mixed ones go through
    ``kernels`` and then ``conv2d`` or ``linear``; a backend that fuses the two, or moves data
    between formats once for both, overrides them.
    """

    @abstractmethod
    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Global average (B, C) of features (B, C, H, W), and the features, to be used once."""

    def attend(self, pooled: Tensor, branch: ContrastingBranch) -> Tensor | None:
        """Attention (B, m, n) of a branch; None where its own layers are as good."""
        return None

    @abstractmethod
    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Kernels (B, C_out, C_in / groups, kh, kw) from attention (B, m, n).

        Transient ones are done with before the thread mixes again.
        """

    @abstractmethod
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

    def linear(self, x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        """Apply 1x1 kernel b to sample b, see :func:`kw_mm.ops.linear_per_image`."""
        return linear_per_image(x, kernels.flatten(2), bias)

    def mixed_conv2d(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        bias: Tensor | None,
        geometry: Geometry,
        *,
        recompute: bool = False,
        keep_format: bool = True,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Mix and convolve, see :func:`kw_mm.ops.mixed_conv2d`."""
        if scale is not None and not _scales_kernels(x, partition, geometry):
            out = self.mixed_conv2d(
                x,
                alpha,
                cells,
                partition,
                None,
                geometry,
                recompute=recompute,
                keep_format=keep_format,
            )
            return _scale_outputs(out, scale, bias)

        def use(kernels: Tensor) -> Tensor:
            return self.conv2d(x, kernels, bias, geometry, keep_format=keep_format)

        return self._with_kernels(x, alpha, cells, partition, use, recompute, scale)

    def conv3d(
        self, x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry3d
    ) -> Tensor:
        """Convolve volume b with kernel b, see :func:`kw_mm.ops.conv3d_per_image`."""
        return grouped_conv3d(x, kernels, bias, geometry)

    def mixed_conv3d(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        bias: Tensor | None,
        geometry: Geometry3d,
        *,
        recompute: bool = False,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Mix and convolve volumes, see :func:`kw_mm.ops.mixed_conv3d`."""

        def use(kernels: Tensor) -> Tensor:
            volumes = kernels.unflatten(3, geometry.kernel_size[:2])
            return self.conv3d(x, volumes, bias, geometry)

        return self._with_kernels(x, alpha, cells, partition, use, recompute, scale)

    def mixed_linear(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        bias: Tensor | None,
        *,
        recompute: bool = False,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Mix and multiply, see :func:`kw_mm.ops.mixed_linear`."""

        def use(kernels: Tensor) -> Tensor:
            return self.linear(x, kernels, bias)

        return self._with_kernels(x, alpha, cells, partition, use, recompute, scale)

    def _with_kernels(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        use: Callable[[Tensor], Tensor],
        recompute: bool,
        scale: Tensor | None = None,
    ) -> Tensor:
        mix = partial(self.kernels, cells=cells, partition=partition)
        kernels = mix(alpha, transient=True)
        device = x.device.type
        autocast = autocast_dtype(device)
        dtype = x.dtype if autocast is None else kernels.dtype
        if scale is not None:  # a layer for inference
            return use(_scale_kernels(kernels, scale, dtype))
        kernels = kernels.to(dtype)  # of cells stored in lower precision
        if not (recompute and kernels.requires_grad) or is_traced():
            return use(kernels)
        weights = alpha.detach()

        def mix_again() -> Tensor:  # in the backward pass, where autocast is off
            on = torch.autocast(device, dtype=autocast, enabled=autocast is not None)
            with torch.no_grad(), on:
                return mix(weights).to(dtype)

        with kernels_recomputed(kernels, mix_again):
            return use(kernels)


def _scales_kernels(x: Tensor, partition: Partition, geometry: Geometry) -> bool:
    """Whether an image's kernel has fewer values than its output; in exported files always.

    Those must not depend on the size of the image.
    """
    if is_exported():
        return True
    return math.prod(partition.kernel_shape[1:]) <= math.prod(geometry.output_size(x.shape[2:]))


def _scale_kernels(kernels: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Kernels (B, C_out, ...) times a factor for each output channel, in a dtype."""
    factors = scale.view(-1, *[1] * (kernels.dim() - 2))
    if kernels.dtype == dtype and not kernels.requires_grad and not is_traced():
        return kernels.mul_(factors)  # nobody else has them
    return (kernels * factors).to(dtype)


def _scale_outputs(out: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """(B, C_out, H, W) times a factor for each channel, and the bias added."""
    factors = scale.to(out.dtype).view(1, -1, 1, 1)
    if bias is None:
        return out * factors
    return torch.addcmul(bias.to(out.dtype).view(1, -1, 1, 1), out, factors)
