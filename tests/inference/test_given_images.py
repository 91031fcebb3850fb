"""Images as users hand them over."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from prediction import blobs

from kw_mm.errors import UserError
from kw_mm.inference.given_images import given_images

PICTURE = blobs(3, (48, 64))  # BGR
RGB = np.ascontiguousarray(PICTURE[..., ::-1])
CHW = torch.from_numpy(RGB).permute(2, 0, 1)

ARRAYS = {
    'array': PICTURE,
    'PIL': Image.fromarray(RGB),
    'PIL with a palette': Image.fromarray(RGB).quantize(64),
    'uint8 tensor': CHW,
    'tensor from 0 to 1': CHW / 255,
    'half a tensor': (CHW / 255).half(),
    'batch': CHW[None],
}


@pytest.mark.parametrize('name', ARRAYS)
def test_one_image(name):
    ((image, path),) = given_images(ARRAYS[name])
    assert path is None and image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.array_equal(image, PICTURE)


def test_grey_arrays():
    grey = cv2.cvtColor(PICTURE, cv2.COLOR_BGR2GRAY)
    for given in (grey, Image.fromarray(grey)):
        ((image, _),) = given_images(given)
        assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_a_pil_image_is_turned_as_opencv_turns_its_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(RGB).save(tmp_path / 'turned.png', exif=exif)
    path = str(tmp_path / 'turned.png')
    ((image, _),) = given_images(Image.open(path))
    assert image.shape == (64, 48, 3)
    assert np.array_equal(image, cv2.rotate(PICTURE, cv2.ROTATE_90_CLOCKWISE))


def test_paths_folders_urls_and_lists(pictures):
    paths = [str(pictures / f'{i:012d}.png') for i in (7, 8, 9)]
    url = 'https://example.org/street.jpg'
    given = [paths[2], [pictures, url], (PICTURE, torch.stack([CHW, CHW]))]
    found = given_images(given)
    assert [one.path for one in found] == [paths[2], *paths, url, None, None, None]
    assert [one.image for one in found[:5]] == [one.path for one in found[:5]]


@pytest.mark.parametrize(
    'given, sentence',
    [
        (PICTURE / 255, r'uint8, got \(48, 64, 3\) of float64'),
        (RGB.transpose(2, 0, 1), r'got \(3, 48, 64\) of uint8; channels come last'),
        (PICTURE[None], r'several images are a list: list\(array\)'),
        (PICTURE[:0], r'got \(0, 64, 3\)'),
        (np.zeros((4, 4, 4), np.uint8), r'got \(4, 4, 4\)'),
        (torch.from_numpy(RGB), r'must be of shape .* got \(48, 64, 3\)'),
        (CHW.float(), 'values from 0 to 1, got .* to 25'),
        (CHW / 255 - 0.5, 'values from 0 to 1, got -0'),
        (torch.full((3, 4, 4), float('nan')), 'values from 0 to 1, got nan'),
        (CHW.int(), 'floats from 0 to 1, got torch.int32'),
        (torch.zeros(1, 4, 4), r'got \(1, 4, 4\)'),
        (Image.fromarray(np.zeros((4, 4), np.int32)), "eight bits a channel, got mode 'I'"),
        ([], 'got none'),
        (7, 'got 7'),
        (None, 'got None'),
        ('nowhere.jpg', "'nowhere.jpg' does not exist"),
    ],
)
def test_what_is_no_image_or_ambiguous(given, sentence):
    with pytest.raises(UserError, match=sentence):
        given_images(given)


def test_a_video(tmp_path):
    (tmp_path / 'drive.mp4').write_bytes(b'')
    with pytest.raises(UserError, match='tools/predict.py takes videos'):
        given_images(tmp_path / 'drive.mp4')
