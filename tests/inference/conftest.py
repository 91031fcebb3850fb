"""A detector with random weights: what it finds is wrong, but it finds something everywhere."""

import cv2
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from prediction import CONFIG, blobs

from kw_mm.run_config import load_config


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """A file with nothing but a state dict."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(load_config(CONFIG).model)
    path = tmp_path_factory.mktemp('weights') / 'alone.pth'
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def pictures(tmp_path):
    """A folder with three pictures of different sizes, named as COCO names its own, and a note."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for i, size in enumerate([(64, 96), (96, 64), (128, 128)], 7):
        cv2.imwrite(str(folder / f'{i:012d}.png'), blobs(i, size))
    (folder / 'note.txt').write_text('not a picture')
    return folder
