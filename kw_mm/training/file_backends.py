"""Files written and read with care, as backends of mmengine's: atomic_local, whole_image.

Anything of OpenMMLab that takes ``backend_args`` can use them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmengine.fileio import LocalBackend, register_backend

from ..errors import CheckpointError, ImageError, one_line
from ..files import atomic_write

ATOMIC, WHOLE_IMAGE = 'atomic_local', 'whole_image'


class AtomicLocalBackend(LocalBackend):
    """Writes so that a crash leaves the old file or the new one.

    A file is written under a temporary name in its folder, flushed to the disk and renamed.

    Raises:
        CheckpointError: (when writing) The disk does not take it.

    Example:
        >>> mmengine.fileio.put(content, 'x.pth', backend_args=dict(backend='atomic_local'))
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a binary file."""
        with checkpoint_written(filepath), atomic_write(filepath) as draft:
            super().put(obj, draft)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text file."""
        with checkpoint_written(filepath), atomic_write(filepath) as draft:
            super().put_text(obj, draft, encoding)


@contextmanager
def checkpoint_written(path: str | Path) -> Iterator[None]:
    """Turn a failure to write a checkpoint into one sentence.

    Raises:
        CheckpointError: It names the file and the reason.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch's zip writer reports a full disk as a RuntimeError
        if isinstance(error, RuntimeError) and 'PytorchStreamWriter' not in str(error):
            raise
        reason = getattr(error, 'strerror', None) or str(error).splitlines()[0]
        raise CheckpointError(
            f'checkpoint {str(path)!r} could not be written ({reason}); earlier checkpoints are '
            'intact: make room and continue with --resume'
        ) from error


class WholeImageBackend(LocalBackend):
    """Reads image files, and does not accept a part of one.

    Versions of OpenCV return a JPEG file that was cut short with its lower part grey. The test
    pipelines of kw_mm's configs use it in a stock ``LoadImageFromFile``, which inferencers of
    OpenMMLab look for by that name. A URI is read by the backend of its prefix.

    Args:
        inner: ``backend_args`` of the backend that reads, where the path does not say enough.

    Raises:
        ImageError: (when reading) The file is missing, empty or cut short; it names the file.

    Example:
        >>> dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image'))
        >>> cluster = dict(backend='petrel', path_mapping={'data/': 's3://bucket/'})
        >>> dict(
        ...     type='LoadImageFromFile', backend_args=dict(backend='whole_image', inner=cluster))
    """

    def __init__(self, inner: dict[str, Any] | None = None):
        self.inner = inner

    def get(self, filepath: str | Path) -> bytes:
        """Read an image file."""
        try:
            data = fileio.get(filepath, backend_args=self.inner)
        except Exception as error:  # each backend has its own
            reason = getattr(error, 'strerror', None) or one_line(error)
            raise ImageError(f'image {str(filepath)!r} cannot be read ({reason})') from error
        if is_cut_short(data):
            raise ImageError(
                f'image {str(filepath)!r} cannot be read (the file ends after {len(data)} bytes, '
                'before its image does)'
            )
        return data


def is_cut_short(data: bytes) -> bool:
    """Whether a file is empty, or a JPEG or PNG that has no end."""
    if data.startswith(b'\xff\xd8'):
        return data.find(b'\xff\xd9', _start_of_scan(data)) < 0
    return not data or (data.startswith(b'\x89PNG') and b'IEND' not in data)


def _start_of_scan(data: bytes) -> int:
    """Where the compressed image of a JPEG begins.

    That is past all segments; one of them may hold a thumbnail, which has an end of its own.
    """
    at = 2
    while data[at : at + 1] == b'\xff' and data[at + 1 : at + 2] != b'\xda':
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], 'big'), 2)
    return at


register_backend(ATOMIC, AtomicLocalBackend, force=True)
register_backend(WHOLE_IMAGE, WholeImageBackend, force=True)
