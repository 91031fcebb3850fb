"""Pictures and videos on the disk, and those that do not get there."""

import cv2
import numpy as np
import pytest
from prediction import arguments, blobs

from kw_mm.errors import UserError
from kw_mm.inference import predict
from kw_mm.inference.drawings import write_picture, write_video
from kw_mm.inference.gallery import write_gallery


def test_a_picture_is_what_opencv_writes(tmp_path):
    for name in ('x.jpg', 'x.png'):
        write_picture(tmp_path / 'new' / name, blobs(0, (64, 96)))
        cv2.imwrite(str(tmp_path / name), blobs(0, (64, 96)))
        assert (tmp_path / 'new' / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_picture_that_its_format_does_not_take(tmp_path):
    with pytest.raises(UserError, match=r"^picture '.*x.webp' must be writable, got .*; name"):
        write_picture(tmp_path / 'x.webp', np.zeros((1, 20000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_sheet_that_cannot_be_written(tmp_path):
    write_picture(tmp_path / 'pictures/x.png', blobs(0, (64, 96)))
    (tmp_path / 'sheet.png').mkdir()
    with pytest.raises(UserError, match="sheet.png' must be writable, got 'Is a directory'"):
        write_gallery(str(tmp_path / 'pictures'), str(tmp_path / 'sheet.png'))


def test_a_video_that_cannot_be_written_is_no_success(weights, pictures, tmp_path, capsys):
    write_video(tmp_path / 'clip.mp4', 5, [blobs(i, (64, 96)) for i in range(2)])
    (tmp_path / 'out/clip.mp4').mkdir(parents=True)
    with pytest.raises(UserError, match=r"^video '.*out/clip.mp4' must be writable as mp4, got"):
        predict(arguments(weights, tmp_path / 'clip.mp4', pictures, out_dir=tmp_path / 'out'))
    assert 'clip.mp4:' not in capsys.readouterr().out
    assert len(list((tmp_path / 'out').glob('*.png'))) == 3  # the rest is done
