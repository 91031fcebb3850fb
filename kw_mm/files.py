"""Writing files so that a crash leaves the old file or the new one, never a part of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = '.{}.part'


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[str]:
    """Write a file under a temporary name; it gets its own name once it is on the disk.

    Both names are in one folder. If writing fails, the temporary file is removed and an older file
    of this name stays as it was.

    Args:
        path: The file to write or to replace.

    Yields:
        str: The temporary name to write to.

    Raises:
        OSError: The disk does not take it.

    Example:
        >>> with atomic_write('weights.pth') as draft:
        ...     torch.save(state_dict, draft)
    """
    folder, name = os.path.split(path)
    draft = os.path.join(folder, PART.format(name))
    try:
        yield draft
        with open(draft, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(folder or '.')
    except BaseException:
        if os.path.isfile(draft):
            os.remove(draft)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a small text file (UTF-8), all or nothing.

    Raises:
        OSError: The disk does not take it.
    """
    with atomic_write(path) as draft:
        Path(draft).write_text(text, encoding='utf-8')


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove what interrupted writing left in a folder."""
    for part in Path(folder).glob(PART.format('*')):
        part.unlink()


def _sync_folder(folder: str) -> None:
    if os.name != 'posix':  # Windows opens no folders, and renames durably
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
