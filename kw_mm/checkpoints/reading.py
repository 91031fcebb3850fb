"""Reading checkpoint files without executing what is in them.

``torch.load(weights_only=True)`` builds tensors and plain data alone. Published and mmengine
checkpoints hold a few other things besides, which are of no use to weights; they become inert
stand-ins.
"""

import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import mmengine.runner.checkpoint
import numpy as np
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from ..errors import CheckpointError
from . import unpickling

EXECUTE, REFUSE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# A fork of mmengine lets files name getattr and its own classes besides, whatever its caller
# allows.
TORCH_KNOWS_STAND_INS = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (
    2,
    7,
) and not hasattr(mmengine.runner.checkpoint, 'get_torch_safe_globals')


class Inert:
    """Stands in for a class whose instances are of no use to weights."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def inert(*args, **kwargs) -> None:
    """Stands in for a function that a checkpoint names."""


def read_checkpoint(path: str, map_location: str = 'cpu') -> Any:
    """Read a checkpoint file, or anything mmengine's ``CheckpointLoader`` has a scheme for, without executing it.

    Args:
        path: A file, URL, ``torchvision://...`` or ``kw://...``.
        map_location: Device for the tensors.

    Returns:
        What the file holds.

    Raises:
        CheckpointError: No such file, a damaged one, or one with objects that would have to be
            executed.
    """
    if '://' not in path and not os.path.isfile(path):
        raise CheckpointError(f'checkpoint {path!r} does not exist')
    if os.path.isfile(path) and _is_text(
        path
    ):  # torch would take its first letter for an operation
        raise CheckpointError(
            f'checkpoint {path!r} is damaged or not a checkpoint (it is text, perhaps a web page saved in '
            'its place); fetch or save it again'
        )
    try:
        with refusing(f'checkpoint {path!r}'):
            return CheckpointLoader.load_checkpoint(path, map_location, logger='silent')
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can bring torch's reader to raise anything
        raise CheckpointError(
            f'checkpoint {path!r} is damaged or not a checkpoint ({_first_line(error)}); '
            'fetch or save it again'
        ) from error


@contextmanager
def refusing(what: str, advice: str = '') -> Iterator[None]:
    """Read weights only, whoever reads; what would have to be executed is one sentence about ``what``.

    Raises:
        CheckpointError: A file with objects that would have to be executed.
    """
    try:
        with weights_only():
            yield
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(what, error) + advice) from error


def _refusal(what: str, error: Exception) -> str:
    if (
        'Unsupported' not in str(error)
        and 'GLOBAL' not in str(error)
        and 'WeightsUnpickler' not in str(error)
    ):
        return (
            f'{what} is damaged or not a checkpoint ({_first_line(error)}); fetch or save it again'
        )
    return (
        f'{what} holds objects that kw_mm does not execute ({_first_line(error)}). If you trust its '
        'author, save its weights alone: checkpoint = torch.load(FILE, weights_only=False); '
        "torch.save(dict(state_dict=checkpoint['state_dict']), NEW_FILE)"
    )


def _is_text(path: str) -> bool:
    """Whether a file begins as no binary file that torch writes: all printable characters."""
    with open(path, 'rb') as file:
        start = file.read(256)
    return len(start) > 16 and all(byte in b'\t\n\r' or 32 <= byte < 127 for byte in start)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if 'GLOBAL' in line or 'Unsupported' in line]
    return (named or lines or [type(error).__name__])[0][:200]


@contextmanager
def own_run() -> Iterator[None]:
    """Read everything, for files that the user's own run wrote: mmengine needs their log buffers to resume."""
    with _environment({EXECUTE: '1', REFUSE: None}):
        yield


@contextmanager
def weights_only() -> Iterator[None]:
    """Read tensors and plain data alone; what published and mmengine checkpoints hold besides becomes inert."""
    with ExitStack() as stack:
        stack.enter_context(_environment({REFUSE: '1', EXECUTE: None}))
        if TORCH_KNOWS_STAND_INS:
            known = (
                torch.serialization.get_safe_globals()
            )  # of an outer context, which would lose them
            allowed = [(used, name) for name, used in _allowed().items()]
            stack.enter_context(
                torch.serialization.safe_globals([entry for entry in allowed if entry not in known])
            )
        else:
            stack.enter_context(unpickling.building(_allowed()))
        yield


@contextmanager
def _environment(values: dict[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _allowed() -> dict[str, Any]:
    """By the full name of a global in a file, the object that is used for it."""
    stand_ins = {
        'mmengine.logging.history_buffer.HistoryBuffer': Inert,
        'argparse.Namespace': Inert,
        'builtins.getattr': inert,
    }
    rebuild = [
        value.__reduce__()[0] for value in (np.empty(0), np.float64())
    ]  # whatever numpy calls its modules
    arrays = {
        f'{core}.multiarray.{function.__name__}': function
        for core in ('numpy.core', 'numpy._core')
        for function in rebuild
    }
    dtypes = {
        type(np.dtype(code))
        for code in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u4', 'u8', '?', 'U1')
    }
    types = {
        f'{kind.__module__}.{kind.__qualname__}': kind for kind in (np.ndarray, np.dtype, *dtypes)
    }
    return {**stand_ins, **arrays, **types}
