"""One sheet of the pictures that a test has drawn."""

from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError
from .drawings import write_picture


def write_gallery(
    folder: str, file: str, *, columns: int = 4, most: int = 12, height: int = 256
) -> Path:
    """Lay out pictures on one sheet, such as those that ``tools/test.py --show-dir`` drew.

    Args:
        folder: Where the pictures are, at any depth; they are taken in the order of their names.
        file: Image file to write.
        columns: Pictures in a row.
        most: How many at most.
        height: Of each picture, in pixels.

    Returns:
        Path: The file written.

    Raises:
        UserError: Numbers below 1, a file that is not named as an image, or no picture in the
            folder that can be read; or the sheet cannot be written.
    """
    if columns < 1 or most < 1:
        raise UserError(
            f'--columns and --most must be positive, got --columns {columns} and --most {most}'
        )
    if not cv2.haveImageWriter(str(file)):
        raise UserError(f'{str(file)!r} is not the name of an image file; end it in .png or .jpg')
    paths = sorted(
        path for path in Path(folder).rglob('*') if path.suffix.lower() in ('.jpg', '.jpeg', '.png')
    )
    images = [image for image in map(_read, paths[:most]) if image is not None]
    if not images:
        raise UserError(f'no pictures in {folder}')
    tiles = [_resize(image, height) for image in images]
    width = max(tile.shape[1] for tile in tiles)
    tiles = [_frame(tile, width) for tile in tiles]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows: list[np.ndarray] = [
        np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)
    ]
    write_picture(Path(file), np.vstack(rows))
    return Path(file)


def _read(path: Path) -> np.ndarray | None:
    """By its bytes: OpenCV does not open every name."""
    data = np.fromfile(path, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None


def _resize(image: np.ndarray, height: int) -> np.ndarray:
    return cv2.resize(
        image,
        (max(round(image.shape[1] * height / image.shape[0]), 1), height),
        interpolation=cv2.INTER_AREA,
    )


def _frame(image: np.ndarray, width: int, border: int = 4) -> np.ndarray:
    right = width - image.shape[1] + border
    return cv2.copyMakeBorder(
        image, border, border, border, right, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
