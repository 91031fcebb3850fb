"""Pictures of tested images show what the pipeline has loaded."""

from types import SimpleNamespace

import numpy as np
import pytest
from drawn_coco import annotations_of, draw
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.visualization import Visualizer
from PIL import Image

from kw_mm.errors import UserError
from kw_mm.training.drawing_hook import KWDetVisualizationHook


@pytest.fixture(autouse=True)
def _visualizer():
    """There is one, as in a run."""
    Visualizer.get_instance('drawing')


class Canvas:
    """Keeps what it is given to draw on."""

    def __init__(self):
        self.drawn = []

    def add_datasample(self, name, image, **options):
        self.drawn.append((name, image, options['out_file'], options['step']))


def turned(path):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(path).save(path, exif=tag.tobytes())


def deep(path):
    grey = np.array(Image.open(path).convert('L')).astype(np.uint16) * 16
    Image.fromarray(grey).save(path)


@pytest.mark.parametrize(
    'change, options, shape',
    [
        (turned, dict(color_type='color_ignore_orientation'), (64, 96, 3)),
        (turned, dict(), (96, 64, 3)),
        (deep, dict(color_type='unchanged'), (64, 96, 3)),
        (deep, dict(to_float32=True, color_type='unchanged', imdecode_backend='cv2'), (64, 96, 3)),
    ],
)
def test_images_are_drawn_as_loaded(tmp_path, change, options, shape):
    content = annotations_of(1)
    draw(tmp_path, content)
    path = tmp_path / '001.png'
    change(path)
    pipeline = Compose([dict(type='LoadImageFromFile', **options)])
    loader = SimpleNamespace(
        dataset=SimpleNamespace(dataset=SimpleNamespace(pipeline=pipeline), datasets=[])
    )
    runner = SimpleNamespace(
        test_dataloader=loader, val_dataloader=loader, work_dir=str(tmp_path), timestamp='t', iter=0
    )
    hook = KWDetVisualizationHook(draw=True, test_out_dir=str(tmp_path / 'out'))
    hook._visualizer = canvas = Canvas()
    sample = DetDataSample(metainfo=dict(img_path=str(path)))
    hook.after_test_iter(runner, 0, None, [sample, sample])
    hook.after_val_iter(runner, 0, None, [sample, sample])
    names, images, files, steps = zip(*canvas.drawn)
    assert names == ('test_img', 'test_img', 'val_img') and steps == (1, 2, 0)
    assert files == (str(tmp_path / 'out/001.png'), str(tmp_path / 'out/001.png'), None)
    assert all(image.shape == shape and image.dtype == np.uint8 for image in images)
    assert images[0].max() > images[0].min()


def test_without_a_loader_there_is_nothing_to_draw(tmp_path):
    hook = KWDetVisualizationHook(draw=True)
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=SimpleNamespace(pipeline=Compose([]))), iter=0
    )
    with pytest.raises(UserError, match='has no LoadImageFromFile'):
        hook.after_val_iter(runner, 0, None, [None])
    KWDetVisualizationHook().after_val_iter(runner, 0, None, [None])
