"""Reading checkpoint files without executing what is in them.

Tensors and plain data are built, see :mod:`kw_mm.checkpoints.unpickling`. Nothing is changed for
the rest of the process, and no environment variable makes a difference: torch's parsers are called
with an unpickler, which ``torch.load`` would choose by ``TORCH_FORCE_[NO_]WEIGHTS_ONLY_LOAD``.
"""

import inspect
import os
import pickle
import tarfile
from typing import Any, BinaryIO

from mmengine.runner.checkpoint import CheckpointLoader
from torch import _utils, serialization

from ..errors import CheckpointError
from . import unpickling

# has newer torch check the indices of sparse tensors, as older versions always do
TAKES_CHECKS = 'weights_only' in inspect.signature(serialization._load).parameters
CHECKS = dict(weights_only=True) if TAKES_CHECKS else {}


def read_checkpoint(path: str, map_location: Any = 'cpu') -> Any:
    """Read a checkpoint file or URL without executing what is in it.

    Args:
        path: A file, or anything that mmengine's ``CheckpointLoader`` has a scheme for: a URL,
            ``torchvision://...``, ``kw://...``.
        map_location: Device for the tensors, as ``torch.load`` takes it.

    Returns:
        What the file holds.

    Raises:
        CheckpointError: No such file, a damaged one, or one with objects that would have to be
            executed.
    """
    if '://' not in path:
        return read_file(os.path.expanduser(path), map_location)
    try:
        return CheckpointLoader.load_checkpoint(path, map_location, logger='silent')
    except CheckpointError:
        raise
    except ImportError as error:
        raise CheckpointError(
            f'checkpoint {path!r} cannot be fetched ({_first_line(error)}); install that package, '
            'or name a file'
        ) from error
    except OSError as error:
        raise CheckpointError(
            f'checkpoint {path!r} cannot be fetched ({_first_line(error)}); fetch it otherwise and '
            'name the file'
        ) from error
    except Exception as error:  # whatever storage ends with
        raise _damaged(path, _first_line(error)) from error


def read_own_checkpoint(path: str, map_location: Any = 'cpu') -> Any:
    """Read in full a file that the user's own run wrote: THIS EXECUTES WHAT IS IN IT.

    mmengine keeps the histories of logged values as objects, which a run needs to be resumed.
    """
    with open(path, 'rb') as file:
        return _parse(file, map_location, pickle)


def read_file(source: str | BinaryIO, map_location: Any = 'cpu', *, name: str = '') -> Any:
    """Read a checkpoint from a local file without executing what is in it.

    Args:
        source: Its path, or the file opened for binary reading.
        map_location: Device for the tensors, as ``torch.load`` takes it.
        name: What errors call it; by default its path.

    Raises:
        CheckpointError: As :func:`read_checkpoint` does.
    """
    if not isinstance(source, str):
        return _read(source, map_location, name)
    if not os.path.isfile(source):
        raise CheckpointError(f'checkpoint {name or source!r} does not exist')
    with open(source, 'rb') as file:
        return _read(file, map_location, name or source)


def _read(file: BinaryIO, map_location: Any, name: str) -> Any:
    if _is_text(file):  # whose first letter would be taken for an instruction
        raise _damaged(name, 'it is text, perhaps a web page saved in its place')
    try:
        path = str(getattr(file, 'name', ''))
        if path.endswith('.safetensors'):  # holds no objects; newer torch reads it, too
            from safetensors.torch import load_file

            return load_file(path, str(map_location or 'cpu'))
        return _parse(file, map_location, unpickling)
    except unpickling.Refused as error:
        raise CheckpointError(
            f'checkpoint {name!r} holds objects that kw_mm does not execute '
            f'({_first_line(error)}). If you trust its author, save only its weights: '
            'checkpoint = torch.load(FILE, weights_only=False); '
            "torch.save(dict(state_dict=checkpoint['state_dict']), NEW_FILE)"
        ) from error
    except Exception as error:  # a damaged file can bring torch's parsers to raise anything
        raise _damaged(name, _first_line(error)) from error
    finally:
        # of a file that was not read to its end; torch would check them with the next one
        getattr(_utils, '_sparse_tensors_to_validate', []).clear()


def _parse(file: BinaryIO, map_location: Any, pickle_module: Any) -> Any:
    """What ``torch.load`` does once it has chosen an unpickler."""
    options = dict(encoding='utf-8', **(CHECKS if pickle_module is unpickling else {}))
    if serialization._is_zipfile(file):
        with serialization._open_zipfile_reader(file) as archive:
            if serialization._is_torchscript_zip(archive):
                raise unpickling.Refused('Unsupported TorchScript archive')
            return serialization._load(archive, map_location, pickle_module, **options)
    if tarfile.is_tarfile(file):
        raise unpickling.Refused('Unsupported tar archive of an early torch')
    file.seek(0)
    return serialization._legacy_load(file, map_location, pickle_module, **options)


def _is_text(file: BinaryIO) -> bool:
    """Whether a file begins as no binary file that torch writes: all printable characters."""
    start = file.read(256)
    file.seek(0)
    return len(start) > 16 and all(byte in b'\t\n\r' or 32 <= byte < 127 for byte in start)


def _damaged(name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f'checkpoint {name!r} is damaged or not a checkpoint ({reason}); fetch or save it again'
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
