"""The ways to compute per-image operators, and the one place that chooses between them.

Order of trust: reference (the published order of operations, an oracle) < torch (composite
operators, for any device) < cpu, cuda < triton. A sweep of geometries holds each equal to the
oracle in values and gradients.

``KW_MM_BACKEND`` in the environment names one for every device; it is read once, when the first
layer is computed. ``KW_MM_BACKEND=torch`` turns everything off that was made for a device.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec

from torch import Tensor, __version__, library  # `torch` is a module here

from ...errors import UserError
from ..interface import Backend
from ..reference import ReferenceBackend, on_reference_path
from ..tracing import constant_when_compiled, is_exported, is_traced, is_transformed
from .cpu import CpuBackend
from .cuda import CudaBackend
from .exported import ExportedBackend
from .torch import TorchBackend

REFERENCE, EXPORTED, TORCH, CPU, CUDA = (
    ReferenceBackend(),
    ExportedBackend(),
    TorchBackend(),
    CpuBackend(),
    CudaBackend(),
)
BACKEND_VARIABLE = 'KW_MM_BACKEND'
# What a user may name. 'auto' chooses by the device; 'triton-conv' does by Triton whatever it can:
# channels-last maps of any size are convolved, and exact float32 is mixed.
BACKEND_NAMES = ('auto', 'torch', 'cuda', 'triton', 'triton-conv')

_asked: ContextVar[str] = ContextVar('kw_mm backend', default='')
_by_name: dict[str, Backend] = {'torch': TORCH, 'cuda': CUDA}  # Triton's once they are needed


def backend_for(x: Tensor) -> Backend:
    """The backend that serves features where they are, and as they are being recorded."""
    if on_reference_path() or is_transformed():
        return REFERENCE
    if is_exported():
        return EXPORTED
    name = asked_backend()
    if name == 'auto':
        device = x.device.type
        if device == 'cpu' and not is_traced():
            return CPU
        if device != 'cuda':
            return TORCH
        name = fastest_on_gpu()
    return _by_name[name]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context a backend is used for every device, in place of ``KW_MM_BACKEND``'s.

    Code that is compiled within it keeps the backend. What activation checkpointing computes again
    follows the context of the backward pass, and on a GPU, where autograd has a thread of its own,
    ``KW_MM_BACKEND`` alone.

    Args:
        name: One of ``BACKEND_NAMES``.

    Raises:
        UserError: An unknown name, or one that this installation lacks.

    Example:
        >>> with use_backend('torch'):
        ...     expected = backbone(images)
    """
    token = _asked.set(_found(name))
    try:
        yield
    finally:
        _asked.reset(token)


def backend_called(name: str) -> Backend:
    """The backend of a name in ``BACKEND_NAMES``, 'auto' excepted.

    Raises:
        UserError: An unknown name, or one that this installation lacks.
    """
    return _by_name[_found(name)]


@constant_when_compiled
def asked_backend() -> str:
    """The name of the backend that the user has asked for; 'auto' to choose by device."""
    return _asked.get() or _name_in_environment()


@cache
def _name_in_environment() -> str:
    return _found(os.environ.get(BACKEND_VARIABLE) or 'auto')


def _found(name: str) -> str:
    """The name again, once its backend is there."""
    if name not in BACKEND_NAMES:
        raise UserError(
            f'{BACKEND_VARIABLE} must be one of {", ".join(map(repr, BACKEND_NAMES))}, got '
            f"{name!r}; leave it unset, or 'auto', to choose by the device"
        )
    if name.startswith('triton') and name not in _by_name:
        if reason := why_no_triton():
            raise UserError(
                f'{BACKEND_VARIABLE}={name} {reason}; KW_MM_BACKEND=cuda works with torch only'
            )
        from .triton import TritonBackend

        _by_name['triton'] = TritonBackend()
        _by_name['triton-conv'] = TritonBackend(most_positions=float('inf'), exact=True)
    return name


@cache
def why_no_triton() -> str:
    """What Triton kernels need that is not there, as the end of a sentence; empty if nothing."""
    if not hasattr(library, 'custom_op'):
        return f'needs torch 2.4 or newer, got {__version__}'
    if find_spec('triton') is None:
        return 'needs the package triton, which comes with CUDA builds of torch for Linux'
    return ''


@constant_when_compiled
def fastest_on_gpu() -> str:
    """The name of what is used on a GPU unless something else was asked for."""
    return _probed()


@cache
def _probed() -> str:
    if why_no_triton():
        return 'cuda'
    from .triton import runs_here

    return _found('triton') if runs_here() else 'cuda'
