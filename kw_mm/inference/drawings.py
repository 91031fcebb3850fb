"""Writing what was drawn: pictures and videos. One that is not written is an error."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError, one_line
from ..files import atomic_write


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
    """Write pictures of one size as an mp4.

    Args:
        path: The file.
        rate: Pictures per second.
        pictures: One or more, (H, W, 3) in BGR.

    Returns:
        int: How many there were.

    Raises:
        UserError: The file cannot be written.
    """
    writer, number = cv2.VideoWriter(), 0
    try:
        for number, picture in enumerate(pictures, 1):
            if number == 1:
                _open(writer, path, rate, picture)
            writer.write(picture)
    finally:
        writer.release()
    return number


def _open(writer: cv2.VideoWriter, path: Path, rate: float, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    writer.open(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, (width, height))
    if not writer.isOpened():
        raise UserError(
            f'video {str(path)!r} must be writable as mp4, got no file of {width} x {height} '
            f'pixels at {rate:g} pictures per second; name another folder with --out-dir, or use '
            "an OpenCV that has the codec 'mp4v'"
        )
