import io

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.fileio import BaseStorageBackend
from PIL import Image
from torch.utils.data import DataLoader

from kw_mm.errors import ImageError
from kw_mm.training.file_backends import is_cut_short
from kw_mm.training.image_loading import KWLoadImageFromFile


def noise(size=48):
    return np.random.RandomState(0).randint(0, 255, (size, size, 3), np.uint8)


def encoded(kind, **options):
    """A file's bytes; with a thumbnail, whose own end of image comes before the picture."""
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, kind, **options)
    return stream.getvalue()


def with_thumbnail():
    picture, thumbnail = encoded('JPEG'), encoded('JPEG', quality=20)
    return (
        picture[:2]
        + b'\xff\xe1'
        + (len(thumbnail) + 2).to_bytes(2, 'big')
        + thumbnail
        + picture[2:]
    )


FILES = dict(
    baseline=encoded('JPEG'),
    progressive=encoded('JPEG', progressive=True),
    thumbnail=with_thumbnail(),
    png=encoded('PNG'),
)


@pytest.mark.parametrize('name', FILES)
def test_a_file_without_its_end_is_cut_short(name):
    data = FILES[name]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (48, 48, 3)
    assert not is_cut_short(data) and not is_cut_short(data + b'\xff\xda what a telephone appends')
    for share in (0.02, 0.3, 0.6, 0.95):
        assert is_cut_short(data[: int(share * len(data))])
    assert is_cut_short(b'') and not is_cut_short(b'BM and so on')


@pytest.mark.parametrize(
    'options',
    [dict(), dict(to_float32=True), dict(color_type='grayscale'), dict(imdecode_backend='pillow')],
)
def test_a_good_image_is_what_mmcv_loads(tmp_path, options):
    path = tmp_path / 'x.jpg'
    path.write_bytes(FILES['baseline'])
    ours = KWLoadImageFromFile(**options)(dict(img_path=str(path)))
    theirs = LoadImageFromFile(**options)(dict(img_path=str(path)))
    assert ours.keys() == theirs.keys() and ours['img'].dtype == theirs['img'].dtype
    assert np.array_equal(ours['img'], theirs['img']) and ours['ori_shape'] == theirs['ori_shape']


def test_a_bad_image_is_named(tmp_path):
    path = tmp_path / 'x.jpg'
    with pytest.raises(ImageError, match="x.jpg' cannot be read .*No such file"):
        KWLoadImageFromFile()(dict(img_path=str(path)))
    path.write_bytes(FILES['thumbnail'][:-100])
    with pytest.raises(ImageError, match='before its image does'):
        KWLoadImageFromFile()(dict(img_path=str(path)))


def test_mmcvs_own_loader_with_the_backend_for_whole_images(tmp_path):
    load = LoadImageFromFile(backend_args=dict(backend='whole_image'))
    path = tmp_path / 'x.jpg'
    with pytest.raises(ImageError, match=r"^image '\S+x.jpg' cannot be read \(No such file"):
        load(dict(img_path=str(path)))
    for name in FILES:
        path.write_bytes(FILES[name])
        expected = LoadImageFromFile()(dict(img_path=str(path)))['img']
        assert np.array_equal(load(dict(img_path=str(path)))['img'], expected)
        path.write_bytes(FILES[name][:-100])
        with pytest.raises(ImageError, match=r"^image '\S+x.jpg' cannot be read \(the file ends"):
            load(dict(img_path=str(path)))


class Bucket(BaseStorageBackend):
    """Storage of images, as with ``s3://``."""

    def get(self, filepath):
        return FILES[filepath.removeprefix('bucket://')]

    get_text = get


@pytest.fixture
def bucket(monkeypatch):
    """Registered for one test."""
    monkeypatch.setattr(fileio.io, 'backend_instances', {})
    for registered in (fileio.backends.backends, fileio.backends.prefix_to_backends):
        monkeypatch.setitem(registered, 'bucket', Bucket)


@pytest.mark.parametrize('options', [dict(), dict(inner=dict(backend='bucket'))], ids=str)
def test_whole_images_from_remote_storage(bucket, options, monkeypatch):
    load = LoadImageFromFile(backend_args=dict(backend='whole_image', **options))
    prefix = '' if options else 'bucket://'
    expected = LoadImageFromFile()(dict(img_path='bucket://baseline'))['img']
    assert np.array_equal(load(dict(img_path=f'{prefix}baseline'))['img'], expected)
    with pytest.raises(ImageError, match=r"^image '\S*nowhere' cannot be read \(there is no"):
        load(dict(img_path=f'{prefix}nowhere'))
    monkeypatch.setitem(FILES, 'half', FILES['baseline'][:-100])
    with pytest.raises(ImageError, match=r"^image '\S*half' cannot be read \(the file ends"):
        load(dict(img_path=f'{prefix}half'))


class Files:
    """A dataset of one good image and one that is missing."""

    def __init__(self, paths):
        self.load, self.paths = KWLoadImageFromFile(ignore_empty=True), paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.load(dict(img_path=self.paths[index])) is not None


@pytest.mark.parametrize('workers', [0, 2])
def test_images_left_out_are_counted_over_all_workers(tmp_path, workers):
    (tmp_path / 'x.jpg').write_bytes(FILES['baseline'])
    files = Files([str(tmp_path / name) for name in ('x.jpg', 'y.jpg', 'z.jpg', 'x.jpg', 'y.jpg')])
    loaded = [bool(batch) for batch in DataLoader(files, num_workers=workers)]
    assert loaded == [True, False, False, True, False] and files.load.left_out == 3
