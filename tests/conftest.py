"""Shared fixtures. Data that the project may not hold (licences) is looked for in ../shared."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import utils as config_utils
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer
from run_tools import SHARED, run_tool

import kw_mm  # noqa: F401  (registers everything)

# The suite tries the same cases each time; `--hypothesis-profile search` looks for new ones.
settings.register_profile(
    'repeatable', derandomize=True, deadline=None, max_examples=60, database=None
)
settings.register_profile('search', deadline=None, max_examples=3000, print_blob=True)
settings.load_profile('repeatable')

# For each config of another package that one inherits, mmengine reads all 85 metafiles of it.
config_utils.load = cache(config_utils.load)

# The files that take longest come first, so that no process waits for another's at the end.
LONGEST = (
    'training/test_kill_and_resume.py',
    'configs/test_configs.py',
    'models/test_golden.py',
    'docs/test_doc_blocks.py',
    'tools/test_bad_input.py',
)


def pytest_collection_modifyitems(items):
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _nothing_global():
    """OpenMMLab's default scope and visualizers are global: one test's are not for the next."""
    yield
    for kind in (DefaultScope, Visualizer, DetLocalVisualizer, UniversalVisualizer):
        kind._instance_dict.clear()


@pytest.fixture
def unfilled(monkeypatch):
    """Parameters are built without random values, which takes long where only shapes matter."""
    for fill in ('normal_', 'uniform_'):
        monkeypatch.setattr(torch.Tensor, fill, lambda tensor, *args, **kwargs: tensor)


@pytest.fixture(scope='session')
def coco_mini() -> Path:
    """100 real COCO images in COCO's layout."""
    folder = SHARED / 'data/coco_mini'
    if not folder.is_dir():
        pytest.skip(f'needs real COCO images in {folder}')
    return folder


@pytest.fixture(scope='session')
def plain_weights():
    """Function: name -> torchvision-layout state dict with real ImageNet weights."""
    folder = SHARED / 'data/weights'
    if not folder.is_dir():
        pytest.skip(f'needs real ImageNet weights in {folder}')
    import importlib.util

    spec = importlib.util.spec_from_file_location('load_weights', folder / 'load_weights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name: module.load_weights(folder / name)


@pytest.fixture(scope='session')
def tool():
    """Function: run a command line of ``tools/``."""
    return run_tool
