"""The ways to compute per-image operators, and the one place that chooses between them.

Order of trust: reference (the published order of operations, an oracle) < torch (composite
operators, for any device) < cpu. A sweep of geometries holds each equal to the oracle in values and
gradients.
"""

from typing import Protocol

from torch import Tensor

from ..geometry import Geometry
from ..mix import SharedCells
from ..partition import Partition
from ..reference import ReferenceBackend, on_reference_path
from ..tracing import is_exported, is_traced
from .cpu import CpuBackend
from .exported import ExportedBackend
from .torch import TorchBackend


class Backend(Protocol):
    """One way to compute the per-image operators.

    :func:`kw_mm.ops.mixed_conv2d` goes through ``kernels`` and ``conv2d``; a backend that can fuse
    them, or move data between formats once for both, also has a method ``mixed_conv2d``, with
    the same arguments as that function.
    """

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Global average (B, C) of features (B, C, H, W), and the features, to be used once."""
        ...

    def kernels(
        self, alpha: Tensor, cells: SharedCells, partition: Partition, *, transient: bool = False
    ) -> Tensor:
        """Kernels (B, C_out, C_in / groups, kh, kw) from attention (B, m, n).

        Transient ones are done with before the thread mixes again.
        """
        ...

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
        ...


REFERENCE, EXPORTED, TORCH, CPU = (
    ReferenceBackend(),
    ExportedBackend(),
    TorchBackend(),
    CpuBackend(),
)


def backend_for(x: Tensor) -> Backend:
    """The backend that serves features where they are, and as they are being recorded."""
    if on_reference_path():
        return REFERENCE
    if is_exported():
        return EXPORTED
    return CPU if x.device.type == 'cpu' and not is_traced() else TORCH
