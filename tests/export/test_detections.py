"""Detections that go into a file are those of mmdet's predict."""

import pytest
import torch
from mmcv.ops import DeformConv2dPack
from small_detectors import CONFIGS, detector

from kw_mm.building import build_model
from kw_mm.errors import UserError
from kw_mm.export.detection_comparison import compare_detections, drawn_pictures
from kw_mm.export.supported import check_detector
from kw_mm.run_config import load_config

HAS_OPERATORS = pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'), reason='operators need torch 2.4'
)
SIZES = [(96, 128), (100, 71)]


def rows_of(model, with_preprocessing):
    from kw_mm.export.detections import DetectionsPart

    part = DetectionsPart(model, with_preprocessing=with_preprocessing)
    options = dict(from_pixels=with_preprocessing, tolerance=1e-4)
    return compare_detections(model, part, drawn_pictures(), SIZES, (1, 3), **options)


@HAS_OPERATORS
@torch.no_grad()
@pytest.mark.parametrize('with_preprocessing', [False, True])
@pytest.mark.parametrize('name', CONFIGS)
def test_as_mmdet_predicts(name, with_preprocessing):
    model, _ = detector(name)
    for row in rows_of(model, with_preprocessing):
        assert row.detections > 10 * row.batch and row.excess() < 1e-6, row


@HAS_OPERATORS
@torch.no_grad()
@pytest.mark.parametrize(
    'name, options',
    [
        ('mask rcnn', {'model.roi_head.bbox_head.reg_class_agnostic': True}),
        ('mask rcnn', {'model.roi_head.mask_head.class_agnostic': True}),
        ('mask rcnn', {'model.rpn_head.loss_cls.use_sigmoid': False}),
        ('mask rcnn', {'model.test_cfg.rpn.min_bbox_size': 12}),
        ('mask rcnn', {'model.test_cfg.rcnn.max_per_img': 400}),
        ('mask rcnn', {'model.test_cfg.rcnn.score_thr': 0.3}),
        ('mask rcnn', {'model.roi_head.bbox_roi_extractor.roi_layer.aligned': False}),
        ('mask rcnn', {'model.data_preprocessor.pad_size_divisor': 1}),
        ('retinanet', {'model.test_cfg.min_bbox_size': 20}),
        ('retinanet', {'model.bbox_head.loss_cls': dict(_delete_=True, type='CrossEntropyLoss')}),
        ('retinanet', {'model.test_cfg.score_thr': 0.5}),
    ],
)
def test_settings_are_those_of_the_model(name, options):
    model, _ = detector(name, options)
    rows = rows_of(model, True)
    assert all(row.excess() < 1e-6 for row in rows), rows
    assert sum(row.detections for row in rows) > 8


@HAS_OPERATORS
@torch.no_grad()
@pytest.mark.parametrize('name', ['mask rcnn', 'retinanet'])
def test_nothing_to_detect(name):
    from kw_mm.export.detections import DetectionsPart

    where = 'model.test_cfg.rcnn' if name == 'mask rcnn' else 'model.test_cfg'
    model, _ = detector(name, {f'{where}.score_thr': 1.0})
    number, boxes, scores, labels, *masks = DetectionsPart(model)(torch.randn(2, 3, 96, 128))
    assert number.tolist() == [0, 0]
    assert not boxes.any() and not scores.any() and (labels == -1).all()
    assert not any(mask.any() for mask in masks)


SMALL_REFUSALS = [
    (
        'mask rcnn',
        {'model.test_cfg.rcnn.nms.type': 'soft_nms'},
        r"test_cfg of roi_head must have nms=dict\(type='nms', iou_threshold=...\), got .*soft_nms",
    ),
    ('mask rcnn', {'model.test_cfg.rpn.nms_pre': 0}, 'must have a positive nms_pre, got 0'),
    (
        'retinanet',
        {'model.bbox_head.bbox_coder.add_ctr_clamp': True},
        'must have a DeltaXYWHBBoxCoder with clip_border=True and add_ctr_clamp=False',
    ),
    (
        'mask rcnn',
        {'model.roi_head.bbox_roi_extractor.roi_layer.pool_mode': 'max'},
        'must average in square RoIAlign layers, got RoIAlign',
    ),
]


@pytest.mark.parametrize('name, options, message', SMALL_REFUSALS)
def test_settings_that_a_file_cannot_have(name, options, message):
    model, _ = detector(name, options)
    with pytest.raises(UserError, match=message):
        check_detector(model)


@pytest.mark.parametrize(
    'config, message',
    [
        ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', 'got a CascadeRoIHead'),
        ('ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py', 'predict as a .* does, got a MaskScoringRoIHead'),
        ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'got a FCOSHead, whose'),
        ('detr/detr_r50_8xb2-150e_coco.py', r'a one-stage detector .*got a DETR; --part maps'),
    ],
)
def test_detectors_with_other_steps_are_refused(config, message, tmp_path):
    (tmp_path / 'x.py').write_text(f"_base_ = 'mmdet::{config}'")
    model = build_model(load_config(str(tmp_path / 'x.py')))
    with pytest.raises(UserError, match=f'--part detector cannot be written: .*{message}'):
        check_detector(model)


def test_operators_without_an_onnx_form_are_refused():
    model, _ = detector('retinanet')
    model.neck.deformable = DeformConv2dPack(4, 4, 3)
    with pytest.raises(UserError, match="neck.deformable is mmcv's DeformConv2dPack, which has no"):
        check_detector(model)
