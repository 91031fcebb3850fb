"""Writing files so that a crash leaves the old file or the new one, never a part of one.

And finding images, which are known by the endings of their names.
"""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
PART = '.{}.part'


@contextmanager
def atomic_write(path: str | os.PathLike, ending: str = '') -> Iterator[str]:
    """Write a file under a temporary name; it gets its own name once it is on the disk.

    Both names are in one folder. If writing fails, the temporary file is removed and an older file
    of this name stays as it was.

    Args:
        path: The file to write or to replace.
        ending: Of the temporary name, for what tells a format by it.

    Yields:
        str: The temporary name to write to.

    Raises:
        OSError: The disk does not take it.

    Example:
        >>> with atomic_write('weights.pth') as draft:
        ...     torch.save(state_dict, draft)
    """
    folder, name = os.path.split(path)
    draft = os.path.join(folder, PART.format(name) + ending)
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


def check_folder(folder: str | os.PathLike, option: str) -> None:
    """Make a folder that will be written to, and try it out.

    Args:
        folder: The folder.
        option: What sets it on the command line.

    Raises:
        UserError: It cannot be made, or nothing can be written there.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        # makedirs says "File exists" of a file where the folder should be
        reason = 'it is a file' if os.path.isfile(folder) else error.strerror
        raise UserError(
            f'{option} {str(folder)!r} cannot be made ({reason}); name another'
        ) from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'{option} {str(folder)!r} cannot be written to ({error.strerror}); name another'
        ) from error


def check_file(path: str | os.PathLike, option: str) -> None:
    """Check that a file can be written; the folder that it is to be in is made.

    Args:
        path: The file.
        option: What sets it on the command line.

    Raises:
        UserError: It is a folder, or its folder cannot be made or written to.
    """
    if os.path.isdir(path):
        raise UserError(f'{option} {str(path)!r} is a folder; name a file in it')
    folder, name = os.path.split(path)
    check_folder(folder or '.', option)
    try:
        os.stat(os.path.join(folder, PART.format(name)))
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise UserError(
            f'{option} {str(path)!r} cannot be written ({error.strerror}); name another'
        ) from error


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
