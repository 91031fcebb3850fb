import numpy as np
import pytest

from kw_mm.pictures import as_bgr, as_rgb


@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 1), (4, 6, 2), (4, 6, 3), (4, 6, 5)])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int32, np.float32, bool])
def test_any_image_becomes_a_picture(shape, kind):
    image = np.random.RandomState(0).randint(0, 200, shape).astype(kind)
    picture = as_bgr(image)
    assert picture.shape == (4, 6, 3) and picture.dtype == np.uint8 and picture.flags.c_contiguous
    planes = image.reshape(4, 6, -1)
    channels = [0, 1, 2] if planes.shape[2] >= 3 else [0, 0, 0]
    assert np.array_equal(picture, planes[..., channels].astype(np.uint8))
    assert np.array_equal(as_rgb(image), picture[..., ::-1])


def test_values_beyond_eight_bits_are_scaled():
    assert as_bgr(np.array([[0, 32768, 65535]], np.uint16))[0, :, 0].tolist() == [0, 128, 255]
    assert as_bgr(np.array([[-1.0, 0.0, 1.0]]))[0, :, 0].tolist() == [0, 128, 255]
    assert as_bgr(np.array([[0.0, np.nan, 255.0]]))[0, :, 0].tolist() == [0, 0, 255]
