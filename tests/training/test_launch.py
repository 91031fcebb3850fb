import pytest
from mmengine.config import Config

from kw_mm.errors import UserError
from kw_mm.training.launch import skip_bad_images


def config(*pipelines):
    parts = [dict(type='CocoDataset', pipeline=pipeline) for pipeline in pipelines]
    dataset = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=parts))
    test = dict(dataset=dict(type='CocoDataset', pipeline=pipelines[0]))
    return Config(dict(train_dataloader=dict(dataset=dataset), test_dataloader=test))


def test_every_image_loader_of_the_training_set_may_leave_images_out():
    load = dict(type='mmdet.LoadImageFromFile', backend_args=None)
    nested = dict(type='RandomChoice', transforms=[[dict(type='KWLoadImageFromFile')]])
    cfg = config([load, dict(type='Resize', scale=8)], [nested])
    skip_bad_images(cfg)
    first, second = cfg.train_dataloader.dataset.dataset.datasets
    assert first.pipeline == [dict(load, ignore_empty=True), dict(type='Resize', scale=8)]
    assert second.pipeline[0].transforms == [[dict(type='KWLoadImageFromFile', ignore_empty=True)]]
    assert cfg.test_dataloader.dataset.pipeline[0] == load


def test_without_an_image_loader_the_option_is_refused():
    with pytest.raises(UserError, match="--skip-bad-images needs .*'KWLoadImageFromFile'"):
        skip_bad_images(config([dict(type='LoadImageFromNDArray')]))
