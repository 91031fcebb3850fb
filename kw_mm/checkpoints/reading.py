"""How much of a checkpoint file torch.load may execute."""
import os
from contextlib import contextmanager, nullcontext
from typing import ContextManager, Iterator, List

import numpy as np
import torch
from torch.serialization import safe_globals

FORCE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


class Inert:
    """Stands in for a class whose instances are of no use to weights."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def inert(*args, **kwargs) -> None:
    """Stands in for a function that a checkpoint names."""


@contextmanager
def own_run() -> Iterator[None]:
    """Read everything, for files that the user's own run wrote: mmengine needs their log buffers to resume."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = '1'
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def weights_only() -> ContextManager:
    """Read tensors and plain data alone; what mmengine's checkpoints hold besides becomes inert."""
    return safe_globals(_allowed())


def _allowed() -> List:
    stand_ins = [(Inert, 'mmengine.logging.history_buffer.HistoryBuffer'), (Inert, 'argparse.Namespace'),
                 (inert, 'builtins.getattr')]
    core = 'numpy._core' if hasattr(np, '_core') else 'numpy.core'
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    arrays = [(multiarray._reconstruct, f'{name}.multiarray._reconstruct') for name in {core, 'numpy.core', 'numpy._core'}]
    scalars = [(multiarray.scalar, f'{name}.multiarray.scalar') for name in {'numpy.core', 'numpy._core'}]
    dtypes = [type(np.dtype(code)) for code in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', '?')]
    return [*stand_ins, *arrays, *scalars, np.ndarray, np.dtype, *dtypes]
