"""One bad picture, frame or name does not end a folder, and nothing unwritten is called written."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import run_here
from PIL import Image
from prediction import CONFIG, arguments, blobs

from kw_mm.errors import UserError
from kw_mm.files import check_file, check_folder
from kw_mm.inference import predict, prediction
from kw_mm.inference.drawings import mpeg4_rate, write_video
from kw_mm.inference.gallery import write_gallery
from kw_mm.inference.inputs import output_names


def predictions(folder):
    return json.loads((folder / 'predictions.json').read_text())


def drawn(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.json')


ODD_NAME = os.fsdecode(b'b\xe9.png')  # not UTF-8


@pytest.mark.parametrize(
    'name, size, output, problem',
    [
        ('b.pgm', None, 'b.pgm.png', ''),
        ('b.PGM', None, 'b.PGM.png', ''),
        ('b.ppm', None, 'b.ppm', ''),
        ('b.tif', None, 'b.tif', ''),
        (ODD_NAME, None, ODD_NAME, ''),
        ('\u5b57.png', None, '\u5b57.png', ''),
        ('b.png', (1, 4000), 'b.png', ''),
        ('b.bmp', (5000, 2), 'b.bmp', ''),
        ('b.png', (0, 0), '', '1 of 4 pictures cannot be read: .*b.png'),
    ],
)
def test_an_odd_picture_among_others(weights, pictures, tmp_path, name, size, output, problem):
    kinds = {'.png': 'PNG', '.bmp': 'BMP', '.tif': 'TIFF', '.ppm': 'PPM', '.pgm': 'PPM'}
    ending = Path(name).suffix.lower()
    if size == (0, 0):
        (tmp_path / 'odd').write_bytes(b'')
    else:
        pixels = np.full((*size, 3), 99, np.uint8) if size else blobs(3, (64, 96))
        image = Image.fromarray(pixels)
        image.convert('L' if ending == '.pgm' else 'RGB').save(tmp_path / 'odd', kinds[ending])
    os.rename(tmp_path / 'odd', pictures / name)
    out = tmp_path / 'out'
    if problem:
        with pytest.raises(UserError, match=problem):
            predict(arguments(weights, pictures, out_dir=out))
    else:
        predict(arguments(weights, pictures, out_dir=out))
    assert len(drawn(out)) == 3 + bool(output)
    if output:
        assert output in drawn(out)
    assert {result['file_name'] for result in predictions(out)} >= {f'{i:012d}.png' for i in (7, 8)}


def test_whatever_goes_wrong_with_a_picture_is_noted(weights, pictures, tmp_path, monkeypatch):
    """The model itself, for one picture; the disk, for another."""
    detect, write = prediction.Detection._detect, prediction.write_picture

    def fails(self, image, image_id, path):
        if path.name.endswith('7.png'):
            raise RuntimeError('no kernel image\nfor this device')
        return detect(self, image, image_id, path)

    def refuses(path, picture):
        if path.name.endswith('8.png'):
            raise UserError('picture is too large')
        write(path, picture)

    monkeypatch.setattr(prediction.Detection, '_detect', fails)
    monkeypatch.setattr(prediction, 'write_picture', refuses)
    (pictures / 'c.jpg').write_bytes(b'no picture')
    message = r'^picture is too large; 1 of 4 pictures cannot be read: .*c.jpg; 1 could not be '
    with pytest.raises(UserError, match=message + r'processed: .*7.png. \(no kernel image for'):
        predict(arguments(weights, pictures, out_dir=tmp_path / 'out'))
    names = {result['file_name'][-5:] for result in predictions(tmp_path / 'out')}
    assert names == {'8.png', '9.png'} and drawn(tmp_path / 'out') == ['000000000009.png']


def test_an_interruption_leaves_what_was_done(weights, pictures, tmp_path, monkeypatch):
    detect = prediction.Detection._detect

    def interrupted(self, image, image_id, path):
        if image_id == 8:
            raise KeyboardInterrupt
        return detect(self, image, image_id, path)

    monkeypatch.setattr(prediction.Detection, '_detect', interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(arguments(weights, pictures, out_dir=tmp_path / 'out'))
    assert {result['image_id'] for result in predictions(tmp_path / 'out')} == {7}


def test_predictions_are_saved_from_time_to_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(prediction.time, 'monotonic', lambda: now[0])
    with prediction.Predictions(tmp_path / 'x.json') as file:
        file.add([dict(a=1)])
        assert not (tmp_path / 'x.json').exists()
        now[0] = 31.0
        file.add([dict(a=2)])
        assert json.loads((tmp_path / 'x.json').read_text()) == [dict(a=1), dict(a=2)]
        file.add([dict(a=3)])
        assert len(json.loads((tmp_path / 'x.json').read_text())) == 2
    assert len(json.loads((tmp_path / 'x.json').read_text())) == 3


def film(path, frames=3, rate=5.0, size=(64, 96)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate, size[::-1])
    for i in range(frames):
        writer.write(blobs(i, size))
    writer.release()
    return path


@pytest.mark.parametrize('rate', [211.222, 59.94005994, 29.97, 1000.5, 12345.678, 90000, 0.5])
def test_any_rate_is_written(tmp_path, rate):
    assert write_video(tmp_path / 'x.mp4', rate, [blobs(i, (64, 96)) for i in range(3)]) == 3
    read = cv2.VideoCapture(str(tmp_path / 'x.mp4'))
    assert read.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and [p.name for p in tmp_path.iterdir()] == [
        'x.mp4'
    ]
    assert read.get(cv2.CAP_PROP_FPS) == pytest.approx(min(rate, 65535), rel=1e-3)


def test_rates_of_mpeg4():
    for rate in (24, 23.976, 211.222, 655.35, 65535, 65534.7, 1e9, 0, 1e-9):
        found = mpeg4_rate(rate)
        digits = next(digits for digits in range(4) if abs(round(found, digits) - found) < 1e-9)
        assert 0 < found * 10**digits <= 65535
        if 0.01 < rate <= 65535:
            assert found == pytest.approx(rate, rel=1e-3)


def test_a_video_of_such_a_rate_through_the_tool(weights, tmp_path, capsys, monkeypatch):
    path = film(tmp_path / 'phone.avi', rate=211.222)
    done = run_here(
        'predict',
        CONFIG,
        weights,
        path,
        '--out-dir',
        tmp_path / 'out',
        '--device',
        'cpu',
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert done.code == 0 and drawn(tmp_path / 'out') == ['phone.mp4']


def test_a_codec_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    """OpenCV's writer says that it is open and takes frames, and there is no file."""

    class Open:
        def open(self, *args):
            return True

        isOpened = open
        write = release = lambda self, *args: None

    monkeypatch.setattr('kw_mm.inference.drawings.cv2.VideoWriter', Open)
    monkeypatch.setattr(
        'kw_mm.inference.drawings.cv2.VideoWriter_fourcc', lambda *a: 0, raising=False
    )
    with pytest.raises(UserError, match='must be writable as mp4, got no file of 96 x 64'):
        write_video(tmp_path / 'x.mp4', 5, [blobs(0, (64, 96))])
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_are_not_lost(tmp_path):
    frames = [blobs(0, (64, 96)), blobs(1, (32, 48)), blobs(2, (64, 96))]
    write_video(tmp_path / 'x.mp4', 5, frames)
    assert cv2.VideoCapture(str(tmp_path / 'x.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_frame_that_cannot_be_detected_stays_in_the_video(weights, tmp_path, monkeypatch):
    detect = prediction.Detection._detect

    def fails(self, image, image_id, path):
        if image_id == 1:
            raise ValueError('odd frame')
        return detect(self, image, image_id, path)

    monkeypatch.setattr(prediction.Detection, '_detect', fails)
    path = film(tmp_path / 'clip.avi')
    with pytest.raises(UserError, match=r"clip.avi', frame 1 \(odd frame\)"):
        predict(arguments(weights, path, out_dir=tmp_path / 'out'))
    read = cv2.VideoCapture(str(tmp_path / 'out/clip.mp4'))
    assert read.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    found = json.loads((tmp_path / 'out/clip.json').read_text())
    assert {result['image_id'] for result in found} == {0, 2}


def test_names_of_outputs():
    names = output_names(
        [Path(path) for path in ('/a/x.png', '/b/x.png', '/b/b_x.png', '/c/y.pgm')]
    )
    assert list(names.values()) == ['a_x.png', 'b_x.png', 'b_x_2.png', 'y.pgm.png']
    many = output_names([Path(f'/{folder}/{i}.jpg') for folder in 'ab' for i in range(20_000)])
    assert len(set(many.values())) == 40_000
    assert list(output_names([Path('a.mkv'), Path('a.avi')], '.mp4').values())[0].endswith('.mp4')


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'utf-8'])
def test_any_console_takes_any_name(weights, pictures, tmp_path, encoding, capsys, monkeypatch):
    """Strict streams, as under PYTHONIOENCODING, and a name that is in none of them."""
    (pictures / '000000000007.png').rename(pictures / ODD_NAME)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors='strict')
    done = run_here(
        'predict',
        CONFIG,
        weights,
        pictures,
        '--out-dir',
        tmp_path / 'out',
        '--device',
        'cpu',
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert done.code == 0 and len(drawn(tmp_path / 'out')) == 3


def test_a_segmentor_is_refused(tmp_path, weights, pictures):
    (tmp_path / 'own_segmentor.py').write_text(
        'from mmengine.model import BaseModel\n'
        'from mmengine.registry import MODELS\n\n\n'
        '@MODELS.register_module(force=True)\n'
        'class OwnSegmentor(BaseModel):\n    def forward(self, x):\n        return x\n'
    )
    config = tmp_path / 'config.py'
    config.write_text(
        "custom_imports = dict(imports=['own_segmentor'])\nmodel = dict(type='OwnSegmentor')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(UserError, match='must be a detector .* got OwnSegmentor; use the inf'):
            predict(arguments(weights, pictures, out_dir=tmp_path / 'out', config=config))
    finally:
        sys.path.remove(str(tmp_path))


def test_a_sheet_with_a_strip_and_an_empty_file(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for name, size in (('a.png', (64, 96)), ('b.png', (4000, 2))):
        cv2.imwrite(str(folder / name), np.zeros((*size, 3), np.uint8))
    (folder / 'c.png').write_bytes(b'')
    Image.new('RGB', (9, 9)).save(folder / 'd.png')
    os.rename(folder / 'd.png', folder / ODD_NAME)
    write_gallery(str(folder), str(tmp_path / 'sheet.png'))
    assert cv2.imread(str(tmp_path / 'sheet.png')) is not None


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file/x', tmp_path / ('x' * 300)):
        with pytest.raises(UserError, match=r"^--out '.*' cannot be made \(.+\); name another$"):
            check_folder(folder, '--out')
    for path in (tmp_path, tmp_path / 'file/x.png', tmp_path / ('x' * 254 + '.png')):
        with pytest.raises(UserError, match=r"^--out '.*' (is a folder|cannot be (made|written))"):
            check_file(path, '--out')
    check_folder(tmp_path / 'new/deep', '--out')
    check_file(tmp_path / 'other/x.png', '--out')
    check_file('x.png', '--out')
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['deep', 'file', 'new', 'other']
