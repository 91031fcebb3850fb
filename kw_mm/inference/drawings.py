"""Writing what was drawn: pictures and videos. One that is not written is an error."""

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError, one_line
from ..files import atomic_write

LEAST_RATE, MOST_TICKS = 0.01, 65535  # of an MPEG-4 stream, per second


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, all or nothing, in the format that its name ends in.

    Args:
        path: The file; its folder is made.
        picture: (H, W, 3) in BGR.

    Raises:
        UserError: The format or the disk does not take it.
    """
    try:
        encoded, data = cv2.imencode(path.suffix, picture)
        if not encoded:
            raise ValueError(f'{path.suffix} does not take {picture.shape[1]} x {picture.shape[0]}')
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            Path(draft).write_bytes(data)
    except (cv2.error, OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise UserError(
            f'picture {str(path)!r} must be writable, got {reason!r}; name another folder or format'
        ) from error


def write_video(path: Path, rate: float, pictures: Iterable[np.ndarray]) -> int:
    """Write pictures as an mp4, all or nothing.

    Args:
        path: The file.
        rate: Pictures per second; the file gets the nearest that MPEG-4 takes.
        pictures: One or more, (H, W, 3) in BGR; what differs from the first in size is resized.

    Returns:
        int: How many there were.

    Raises:
        UserError: The file cannot be written.
    """
    writer, number, size = cv2.VideoWriter(), 0, (0, 0)
    rate = mpeg4_rate(rate)
    try:
        with atomic_write(path, ending=path.suffix) as draft:
            try:
                for number, picture in enumerate(pictures, 1):
                    if number == 1:
                        size = picture.shape[1::-1]
                        writer.open(draft, cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
                    if picture.shape[1::-1] != size:  # which OpenCV would leave out
                        picture = cv2.resize(picture, size)
                    writer.write(picture)
            finally:
                writer.release()
            _check_written(draft)
    except (cv2.error, OSError) as error:
        raise UserError(
            f'video {str(path)!r} must be writable as mp4, got no file of {size[0]} x {size[1]} '
            f'pixels at {rate:g} pictures per second; name another folder with --out-dir, or use '
            "an OpenCV that has the codec 'mp4v'"
        ) from error
    return number


def mpeg4_rate(rate: float) -> float:
    """The nearest frame rate that MPEG-4 takes: a fraction of numbers below 2^16.

    OpenCV makes a decimal fraction of a rate, and hides it when the codec refuses that.
    """
    rate = min(max(rate, LEAST_RATE), MOST_TICKS)
    for digits in (3, 2, 1):
        if round(rate, digits) * 10**digits <= MOST_TICKS:
            return round(rate, digits)
    return float(round(rate))


def _check_written(path: str) -> None:
    """Whether a video can be read; OpenCV's writer is open, and writes, even without a codec.

    Raises:
        OSError: It cannot.
    """
    if not os.path.getsize(path) or not cv2.VideoCapture(path).read()[0]:
        raise OSError(f'{path} has no pictures')
