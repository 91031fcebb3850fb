"""The ways to compute per-image operators, and the one place that chooses between them.

Order of trust: reference (the published order of operations, an oracle) < torch (composite
operators, for any device) < cpu. A sweep of geometries holds each equal to the oracle in values and
gradients.
"""

from torch import Tensor

from ..interface import Backend
from ..reference import ReferenceBackend, on_reference_path
from ..tracing import is_exported, is_traced, is_transformed
from .cpu import CpuBackend
from .exported import ExportedBackend
from .torch import TorchBackend

REFERENCE, EXPORTED, TORCH, CPU = (
    ReferenceBackend(),
    ExportedBackend(),
    TorchBackend(),
    CpuBackend(),
)


def backend_for(x: Tensor) -> Backend:
    """The backend that serves features where they are, and as they are being recorded."""
    if on_reference_path() or is_transformed():
        return REFERENCE
    if is_exported():
        return EXPORTED
    return CPU if x.device.type == 'cpu' and not is_traced() else TORCH
