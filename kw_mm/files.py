"""Writing files so that a crash leaves the old file or the new one, never a part of one.

And finding images, which are known by the endings of their names.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
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


def files_in(folder: str | os.PathLike, endings: Collection[str] = IMAGE_ENDINGS) -> list[Path]:
    """Files that lie directly in a folder and have one of the endings (lower case), by name."""
    return sorted(
        path for path in Path(folder).iterdir() if path.suffix.lower() in endings and path.is_file()
    )


def remove_parts(folder: str | os.PathLike, *names: str) -> None:
    """Remove what interrupted writing left in a folder.

    Args:
        folder: The folder.
        *names: Of the files that were being written, as patterns: ``'*.pth'``.
    """
    for name in names:
        for part in Path(folder).glob(PART.format(name)):
            if part.is_file():
                part.unlink(missing_ok=True)  # another process may have been faster


def _sync_folder(folder: str) -> None:
    if os.name != 'posix':  # Windows opens no folders, and renames durably
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
