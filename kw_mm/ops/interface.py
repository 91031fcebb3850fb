"""What a backend computes, and how it does so unless it has something better."""

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
from .tracing import is_traced


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
    ) -> Tensor:
        """Mix and convolve, see :func:`kw_mm.ops.mixed_conv2d`."""

        def use(kernels: Tensor) -> Tensor:
            return self.conv2d(x, kernels, bias, geometry, keep_format=keep_format)

        return self._with_kernels(x, alpha, cells, partition, use, recompute)

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
    ) -> Tensor:
        """Mix and convolve volumes, see :func:`kw_mm.ops.mixed_conv3d`."""

        def use(kernels: Tensor) -> Tensor:
            volumes = kernels.unflatten(3, geometry.kernel_size[:2])
            return self.conv3d(x, volumes, bias, geometry)

        return self._with_kernels(x, alpha, cells, partition, use, recompute)

    def mixed_linear(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        bias: Tensor | None,
        *,
        recompute: bool = False,
    ) -> Tensor:
        """Mix and multiply, see :func:`kw_mm.ops.mixed_linear`."""

        def use(kernels: Tensor) -> Tensor:
            return self.linear(x, kernels, bias)

        return self._with_kernels(x, alpha, cells, partition, use, recompute)

    def _with_kernels(
        self,
        x: Tensor,
        alpha: Tensor,
        cells: SharedCells,
        partition: Partition,
        use: Callable[[Tensor], Tensor],
        recompute: bool,
    ) -> Tensor:
        mix = partial(self.kernels, cells=cells, partition=partition)
        kernels = mix(alpha, transient=True)
        device = x.device.type
        autocast = autocast_dtype(device)
        if autocast is None:
            kernels = kernels.to(x.dtype)  # of cells stored in lower precision
        if not (recompute and kernels.requires_grad) or is_traced():
            return use(kernels)
        weights, dtype = alpha.detach(), kernels.dtype

        def mix_again() -> Tensor:  # in the backward pass, where autocast is off
            on = torch.autocast(device, dtype=autocast, enabled=autocast is not None)
            with torch.no_grad(), on:
                return mix(weights).to(dtype)

        with kernels_recomputed(kernels, mix_again):
            return use(kernels)
