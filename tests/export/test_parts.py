"""What a detector's file holds, and that mmdet's own functions continue from it."""

import pytest
import torch
from mmdet.structures import DetDataSample
from run_tools import ROOT
from torch import nn

from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.export import BackbonePart, MapsPart, runner, write
from kw_mm.export.comparison import deviation
from kw_mm.run_config import load_config

RETINANET = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 16,
    'model.backbone.stem_channels': 16,
    'model.backbone.temperature': 1,
    'model.backbone.init': 'plain',
    'model.neck.in_channels': [16, 32, 64, 128],
    'model.neck.out_channels': 16,
    'model.bbox_head.in_channels': 16,
    'model.bbox_head.feat_channels': 16,
}


def model_of(config, **options):
    return (
        build_model(load_config(str(ROOT / 'configs' / config), options))
        .eval()
        .requires_grad_(False)
    )


def through_a_file(part, images, path):
    write(part, images, str(path), 'torchscript', names=[], about={})
    return runner(str(path), 'torchscript')


def samples(batch, height, width):
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        batch_input_shape=(height, width),
        scale_factor=(1, 1),
    )
    return [DetDataSample(metainfo=meta) for _ in range(batch)]


@torch.no_grad()
def test_mmdet_continues_from_a_two_stage_detectors_maps(tmp_path):
    model = model_of('demo/mask_rcnn_kw_shapes.py')
    run = through_a_file(MapsPart(model), torch.randn(2, 3, 128, 160), tmp_path / 'x.pt')
    images, batch = torch.randn(3, 3, 96, 128), samples(3, 96, 128)
    part = MapsPart(model)
    outputs = dict(zip(part.names(part(images)), run(images)))
    features, scores, boxes = (
        [outputs[f'{kind}{level}'] for level in range(4)]
        for kind in ('feature', 'rpn_cls_score', 'rpn_bbox_pred')
    )
    proposals = model.rpn_head.predict_by_feat(
        scores,
        boxes,
        batch_img_metas=[one.metainfo for one in batch],
        cfg=model.rpn_head.test_cfg,
        rescale=False,
    )
    found = model.roi_head.predict(features, proposals, batch, rescale=False)
    expected = model.predict(images, samples(3, 96, 128), rescale=False)
    assert sum(len(one.pred_instances) for one in expected) > 10
    for one, reference in zip(found, expected):
        torch.testing.assert_close(
            one.bboxes, reference.pred_instances.bboxes, rtol=1e-4, atol=1e-2
        )
        torch.testing.assert_close(
            one.scores, reference.pred_instances.scores, rtol=1e-4, atol=1e-5
        )
        assert one.masks.shape == reference.pred_instances.masks.shape


@torch.no_grad()
def test_all_that_a_single_stage_head_computes(tmp_path):
    model = model_of('retinanet_kw_r50_1x_coco.py', **RETINANET)
    part = MapsPart(model)
    run = through_a_file(part, torch.randn(2, 3, 256, 320), tmp_path / 'x.pt')
    images = torch.randn(1, 3, 160, 128)
    scores, boxes = model(images, mode='tensor')
    assert part.names(part(images)) == [
        f'{kind}{level}' for kind in ('cls_score', 'bbox_pred') for level in range(5)
    ]
    assert deviation([*scores, *boxes], run(images)) < 1e-5


def test_unused_heads_are_not_in_the_file():
    part = MapsPart(model_of('demo/mask_rcnn_kw_shapes.py'))
    assert {key.split('.')[0] for key in part.state_dict()} == {'backbone', 'neck', 'head'}


def test_a_model_without_a_dense_head_is_refused():
    with pytest.raises(UserError, match='a Identity has no dense head'):
        MapsPart(nn.Identity())


def test_a_classifier_has_a_backbone():
    part = BackbonePart(model_of('imagenet/kw_r18_100e_in1k.py'))
    assert part.names(part(torch.randn(1, 3, 64, 64))) == ['feature0']


@pytest.mark.parametrize(
    'child, third', [('conv_centerness', 'centerness0'), ('conv_obj', 'output2_0')]
)
def test_a_third_map_is_centerness_only_where_the_head_has_it(child, third):
    part = MapsPart(model_of('retinanet_kw_r50_1x_coco.py'))
    part.head = nn.ModuleDict({child: nn.Identity()})
    assert part.names((None,) * 3)[-1] == third
