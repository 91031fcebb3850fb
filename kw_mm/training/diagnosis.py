"""What mmengine, mmdet and torch raise for a bad config, bad data or a full disk, as sentences."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config

from ..errors import ConfigError, UserError, one_line
from .annotation_problems import problem_of_split

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_IMAGE = 'Cannot find valid image after'  # mmdet
NO_SUCH_LABEL = re.compile(r'Target \d+ is out of bounds')  # torch's cross entropy
# stock LoadImageFromFile; in a worker's error they stand at the end of its stack trace
MISSING_IMAGE = re.compile(
    r"No such file or directory: '(.+?\.(?:jpe?g|png|bmp|webp|tiff?))'", re.IGNORECASE
)
UNDECODED_IMAGE = re.compile(r'failed to load image: (.+)$')


@contextmanager
def data_explained(cfg: Config, *splits: str) -> Iterator[None]:
    """When a run fails, find out whether its images or annotations are to blame, and say so.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test', what the run reads.

    Raises:
        UserError: Names the file and what is wrong in it, or what no file could be named for.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, ConfigError):
            raise
        text = one_line(error)
        problem = _unread_image(text) or _bad_annotations(cfg, splits) or _bad_labels(text)
        if problem is None:
            raise
        raise UserError(problem) from error


def _unread_image(text: str) -> str | None:
    """What stock ``LoadImageFromFile`` says of an image that is missing or cannot be decoded."""
    missing, undecoded = MISSING_IMAGE.search(text), UNDECODED_IMAGE.search(text)
    if missing:
        return (
            f'image {missing.group(1)!r} cannot be read (No such file or directory); fix it, or '
            'train without it: --skip-bad-images'
        )
    if undecoded:
        return (
            f'image {undecoded.group(1)!r} cannot be read (it cannot be decoded); fix it, or load '
            "images with type='KWLoadImageFromFile' and train without it: --skip-bad-images"
        )
    return None


def _bad_annotations(cfg: Config, splits: tuple[str, ...]) -> str | None:
    return next(filter(None, (problem_of_split(cfg, split) for split in splits)), None)


def _bad_labels(text: str) -> str | None:
    if NO_IMAGE in text:
        return (
            'no image could be read in a thousand attempts; look at the first that the log says '
            'was left out'
        )
    if NO_SUCH_LABEL.match(text):
        return (
            f'a label is none of the classes that the head predicts ({text}); set its num_classes, '
            'or fix the file'
        )
    return None


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Name the file, if any, that the disk did not take.

    Raises:
        UserError: The disk is full, or the user's share of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        file = f': {error.filename}' if error.filename else ''
        raise UserError(
            f'the disk is full ({error.strerror}{file}); checkpoints written so far are intact: '
            'make room and continue with --resume'
        ) from error
