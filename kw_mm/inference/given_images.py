"""What a user hands over as images: paths, folders, URLs, arrays, PIL images and tensors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .inputs import find_inputs

TAKEN = (
    'a path, a folder, a URL, an array (H, W, 3) in BGR, a PIL image, a tensor (3, H, W) or '
    '(N, 3, H, W) in RGB, or a list of these'
)
PIL_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'HSV')


class Given(NamedTuple):
    """One image.

    Args:
        image: Its path or URL, or an array (H, W, 3) in BGR, uint8.
        path: Its path or URL, if it has one.
    """

    image: str | np.ndarray
    path: str | None = None


def given_images(images: Any) -> list[Given]:
    """The images in what was given, in its order; those of a folder by name.

    Raises:
        UserError: Something that is no image, or whose meaning is open; says what would do.
    """
    found = list(_each(images))
    if not found:
        raise UserError(f'images must be {TAKEN}, got none')
    return found


def _each(given: Any) -> Iterator[Given]:
    if isinstance(given, (list, tuple)):
        for one in given:
            yield from _each(one)
    elif isinstance(given, str) and '://' in given:
        yield Given(given, given)
    elif isinstance(given, (str, Path)):
        yield from _from_disk(str(given))
    elif isinstance(given, np.ndarray):
        yield Given(_from_array(given))
    elif isinstance(given, Tensor):
        yield from map(Given, _from_tensor(given))
    elif type(given).__module__.partition('.')[0] == 'PIL':
        yield Given(_from_pil(given))
    else:
        raise UserError(f'images must be {TAKEN}, got {given!r:.60}')


def _from_disk(path: str) -> Iterator[Given]:
    inputs = find_inputs([path])
    if inputs.videos and not inputs.images:
        raise UserError(
            f'images must be {TAKEN}, got the video {str(inputs.videos[0])!r}; tools/predict.py '
            'takes videos'
        )
    for image in map(str, inputs.images):
        yield Given(image, image)


def _from_array(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) as OpenCV has it -> (H, W, 3), BGR.

    Raises:
        UserError: Another shape or type.
    """
    is_grey = array.ndim == 2
    if array.dtype != np.uint8 or array.size == 0 or not (is_grey or array.shape[2:] == (3,)):
        advice = 'cv2.imread returns such arrays'
        if array.ndim == 3 and array.shape[0] == 3:
            advice = 'channels come last: array.transpose(1, 2, 0)'
        elif array.ndim == 4:
            advice = 'several images are a list: list(array)'
        raise UserError(
            f'an array must be of shape (H, W, 3) in BGR, or (H, W), and of type uint8, got '
            f'{array.shape} of {array.dtype}; {advice}'
        )
    return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR) if is_grey else array


def _from_tensor(tensor: Tensor) -> Iterator[np.ndarray]:
    """(3, H, W) or (N, 3, H, W) in RGB, uint8 or from 0 to 1 -> (H, W, 3), BGR, uint8.

    Values from 0 to 1 are rounded to eight bits, which gives an image back as it was read.

    Raises:
        UserError: Another shape, type or range.
    """
    batch = tensor[None] if tensor.dim() == 3 else tensor
    if batch.dim() != 4 or batch.shape[1] != 3 or batch.numel() == 0:
        raise UserError(
            f'a tensor must be of shape (3, H, W) or (N, 3, H, W), in RGB, got '
            f'{tuple(tensor.shape)}; arrays with channels last are numpy arrays in BGR'
        )
    batch = batch.detach().cpu()
    if batch.is_floating_point():
        kind, batch = batch.dtype, batch.float()
        low, high = (float(edge) for edge in torch.aminmax(batch))
        if not 0 <= low <= high <= 1:
            raise UserError(
                f'a tensor of {kind} must have values from 0 to 1, got {low:.4g} to '
                f'{high:.4g}; give images as uint8, and not normalised: the model does that'
            )
        batch = (batch * 255).round().to(torch.uint8)
    if batch.dtype != torch.uint8:
        raise UserError(
            f'a tensor must be of type uint8, or of floats from 0 to 1, got {batch.dtype}; '
            'tensor.to(torch.uint8) keeps values up to 255'
        )
    for image in batch.flip(1).permute(0, 2, 3, 1):
        yield np.ascontiguousarray(image.numpy())


def _from_pil(image: Any) -> np.ndarray:
    """A PIL image, turned as its EXIF says, as OpenCV turns the file -> (H, W, 3), BGR.

    Raises:
        UserError: One of more than eight bits.
    """
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image) or image.mode not in PIL_MODES:
        mode = getattr(image, 'mode', type(image).__name__)
        raise UserError(
            f'a PIL image must have eight bits a channel, got mode {mode!r}; give the path of its '
            "file, which is read as the config says, or image.convert('RGB')"
        )
    rgb = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    return np.ascontiguousarray(rgb[..., ::-1])
