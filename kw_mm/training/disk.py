"""A full disk, said in one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Name the file, if any, that the disk did not take.

    Raises:
        UserError: The disk is full, or the user's share of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f'the disk is full ({error.strerror}{f": {error.filename}" if error.filename else ""}); checkpoints '
            'written so far are intact: make room and continue with --resume'
        ) from error
