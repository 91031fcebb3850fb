"""Writing files so that a crash leaves the old file or the new one, never a part of one."""

import os
from pathlib import Path

PART = '.{}.part'


def part_of(path: str) -> str:
    """The temporary name, in the same folder, under which a file is written."""
    folder, name = os.path.split(path)
    return os.path.join(folder, PART.format(name))


def settle(path: str) -> None:
    """Give a file that was written under its temporary name its own, once it is on the disk.

    Args:
        path: The file's own name; a file of this name is replaced.

    Raises:
        OSError: The disk does not take it.
    """
    with open(part_of(path), 'rb+') as file:
        os.fsync(file.fileno())
    os.replace(part_of(path), path)
    _sync_folder(os.path.dirname(path) or '.')


def write_text(path: str, text: str) -> None:
    """Write a small file, all or nothing.

    Raises:
        OSError: The disk does not take it.
    """
    Path(part_of(path)).write_text(text)
    settle(path)


def remove_parts(folder: str) -> None:
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
