"""Images of any depth and number of channels, as pictures to draw on."""

import numpy as np


def as_bgr(image: np.ndarray) -> np.ndarray:
    """An image as a loader returns it, with three channels of eight bits.

    Args:
        image: (H, W) or (H, W, C), of any type of numbers; of three channels or more the first
            three are blue, green and red, one or two are grey.

    Returns:
        np.ndarray: (H, W, 3), uint8. Values that do not fit into eight bits are scaled from 0, or
        the least below 0, to the largest.
    """
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if image.dtype != np.uint8:
        image = np.nan_to_num(image.astype(np.float64))
        low, high = min(image.min(), 0), image.max()
        if low < 0 or high > 255:
            image = (image - low) * (255 / (high - low))
        image = image.round().astype(np.uint8)
    return np.ascontiguousarray(image)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """:func:`as_bgr`, with the channels in the order red, green, blue."""
    return np.ascontiguousarray(as_bgr(image)[..., ::-1])
