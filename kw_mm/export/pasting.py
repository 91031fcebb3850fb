"""Masks of boxes as masks of the image."""

from collections.abc import Sequence

import numpy as np


def paste(
    masks: np.ndarray, boxes: np.ndarray, size: Sequence[int], threshold: float = 0.5
) -> np.ndarray:
    """Interpolate masks over their boxes, as mmdet does on a CPU.

    Args:
        masks: Probabilities on a grid that spans the box, shape (N, S, S).
        boxes: x1, y1, x2, y2 in pixels of the image, shape (N, 4).
        size: (height, width) of the image.
        threshold: From which probability on a pixel is inside.

    Returns:
        numpy.ndarray: bool, shape (N, height, width).
    """
    pasted = np.zeros((len(masks), *size), dtype=bool)
    for image, mask, box in zip(pasted, masks, boxes):
        first = np.maximum(np.floor(box[:2]).astype(int) - 1, 0)
        last = np.minimum(np.ceil(box[2:]).astype(int) + 1, size[::-1])
        across, down = (
            _weights(np.arange(start, end), low, high, len(mask))
            for start, end, low, high in zip(first, last, box[:2], box[2:])
        )
        image[first[1] : last[1], first[0] : last[0]] = down @ mask @ across.T >= threshold
    return pasted


def _weights(pixels: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """What each bin adds to each pixel in one direction, (pixels, bins), linear between centres."""
    with np.errstate(divide='ignore', invalid='ignore'):
        place = np.nan_to_num((pixels + 0.5 - low) / (high - low) * bins - 0.5, nan=-1.0)
    weights: np.ndarray = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(bins)))
    return weights.astype(np.float32)
