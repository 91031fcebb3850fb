import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.config import Config

from kw_mm.errors import UserError
from kw_mm.training.launch import _show, leaving_processes, skip_bad_images


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
    careful = dict(type='KWLoadImageFromFile', backend_args=None, ignore_empty=True)
    assert first.pipeline == [careful, dict(type='Resize', scale=8)]
    assert second.pipeline[0].transforms == [[dict(type='KWLoadImageFromFile', ignore_empty=True)]]
    assert cfg.test_dataloader.dataset.pipeline[0] == load


def test_pipelines_that_hooks_put_in_later_may_leave_images_out():
    later = [dict(type=LoadImageFromFile), dict(type='Resize', scale=8)]
    cfg = config([dict(type='KWLoadImageFromFile')])
    hook = dict(type='mmdet.PipelineSwitchHook', switch_epoch=1, switch_pipeline=later)
    cfg.custom_hooks = [dict(type='EpochSeedHook'), hook]
    skip_bad_images(cfg)
    assert cfg.custom_hooks[1].switch_pipeline == [
        dict(type='KWLoadImageFromFile', ignore_empty=True),
        dict(type='Resize', scale=8),
    ]


def test_without_an_image_loader_the_option_is_refused():
    with pytest.raises(UserError, match="--skip-bad-images needs .*'KWLoadImageFromFile'"):
        skip_bad_images(config([dict(type='LoadImageFromNDArray')]))


def test_image_loaders_are_known_by_their_class():
    class Own(LoadImageFromFile):
        """Any name will do."""

    class NotLoadImageFromFile:
        """So will this one."""

    cfg = config([dict(type=Own), dict(type=NotLoadImageFromFile)])
    skip_bad_images(cfg)
    (first,) = cfg.train_dataloader.dataset.dataset.datasets
    assert first.pipeline == [dict(type=Own, ignore_empty=True), dict(type=NotLoadImageFromFile)]


def test_drawing_hooks_are_known_by_their_class(tmp_path):
    hook = dict(type='GroundingVisualizationHook')
    cfg = Config(dict(default_scope='mmdet', default_hooks=dict(visualization=hook)))
    assert _show(cfg, str(tmp_path)) == str(tmp_path / 'predictions.json')
    cfg.default_hooks.visualization = dict(type='mmpretrain.VisualizationHook')
    assert _show(cfg, str(tmp_path)) is None and cfg.default_hooks.visualization.enable


@pytest.mark.parametrize('kind', ['DetVisualizationHook', DetVisualizationHook], ids=str)
def test_pictures_are_drawn_as_they_were_loaded(tmp_path, kind):
    hooks = dict(visualization=dict(type=kind, score_thr=0.5))
    cfg = Config(dict(default_scope='mmdet', default_hooks=hooks))
    _show(cfg, str(tmp_path))
    drawn = cfg.default_hooks.visualization
    assert (drawn.type, drawn.score_thr, drawn.draw) == ('KWDetVisualizationHook', 0.5, True)


def join_group(file):
    torch.distributed.init_process_group('gloo', init_method=f'file://{file}', rank=0, world_size=1)


def test_only_an_own_group_of_processes_is_left(tmp_path):
    with leaving_processes():
        join_group(tmp_path / 'own')
    assert not torch.distributed.is_initialized()
    join_group(tmp_path / 'callers')
    try:
        with leaving_processes():
            pass
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()
