"""A small run for the command lines."""

import pytest
from run_tools import ROOT, run_tool


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """A very small synthetic set."""
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    run_tool('make_shapes', folder, '--train', 12, '--val', 4, '--size', 64)
    return folder


@pytest.fixture(scope='session')
def small_config(tmp_path_factory, shapes):
    """The quickstart's config on it: 3 epochs of 3 iterations, with every source of randomness."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(f"""
_base_ = {str(ROOT / 'configs/demo/mask_rcnn_kw_shapes.py')!r}
data_root = 'data/shapes/'
model = dict(backbone=dict(drop_path_rate=0.2))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoiceResize', scales=[(48, 48), (64, 64), (96, 96)]),
    dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=3, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=-1))
log_processor = dict(window_size=1)
randomness = dict(seed=None)
""")
    return path
