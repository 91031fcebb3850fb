"""The reference path: what the published code computes, in its order of operations.

It is there to be read, to be compared with and to be measured against; nothing chooses it by
itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch.nn.functional as F
from torch import Tensor

from .geometry import Geometry
from .interface import Backend
from .mix import SharedCells
from .partition import Partition
from .pool import average
from .tracing import is_compiling

_chosen: ContextVar[bool] = ContextVar('kw_mm reference path', default=False)


@contextmanager
def reference_path() -> Iterator[None]:
    """Within this context every dynamic convolution takes the reference path.

    Example:
        >>> with reference_path():
        ...     expected = backbone(images)
    """
    token = _chosen.set(True)
    try:
        yield
    finally:
        _chosen.reset(token)


def on_reference_path() -> bool:
    """Whether the caller is within :func:`reference_path`. Compiled code never is."""
    return not is_compiling() and _chosen.get()


class ReferenceBackend(Backend):
    """One mixing product, a permuted copy, one convolution with groups = batch."""

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Global average (B, C) of features (B, C, H, W), and the features."""
        return average(x), x

    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Mixtures alpha_i . E, put back in order: (B, C_out, C_in / groups, kh, kw)."""
        rows = alpha.to(cells.values.dtype).flatten(0, 1)  # (B m, n)
        mixtures = rows @ cells.values.flatten(1)  # (B m, cell_out cell_in)
        cell = (*partition.cell_shape, *partition.cell_size)
        return partition.to_kernel(mixtures.reshape(*alpha.shape[:2], *cell))

    def conv2d(
        self,
        x: Tensor,
        kernels: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        *,
        keep_format: bool = True,
    ) -> Tensor:
        """Fold the batch into the channels, so that one grouped convolution serves all images."""
        return grouped_conv2d(x, kernels, bias, geometry)


def grouped_conv2d(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """One convolution with groups = batch; arguments as in :func:`kw_mm.ops.convolve`."""
    batch, out_channels = kernels.shape[:2]
    folded = x.reshape(1, -1, *x.shape[2:])  # (1, B C_in, H, W)
    out = F.conv2d(
        folded,
        kernels.flatten(0, 1),
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        batch * geometry.groups,
    )
    out = out.reshape(batch, out_channels, *out.shape[2:])
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)
