"""A backbone's output is contiguous where its input is: mmcv's RoIAlign misreads others."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from run_tools import ROOT

from kw_mm.run_config import load_config

BACKBONES = [
    dict(type='KWResNet', depth=18),
    dict(type='KWResNet', depth=50, budget=0.5),
    dict(type='KWMobileNetV2'),
    dict(type='KWConvNeXt', arch='atto'),
    dict(type='DynamicResNet', depth=18, conv=dict(type='ODConv2d', num_kernels=2)),
    dict(type='StaticResNet', depth=18),
]


@pytest.mark.parametrize('cfg', BACKBONES, ids=lambda cfg: cfg['type'])
@pytest.mark.parametrize('batch', [1, 2])
@torch.no_grad()
def test_outputs_are_contiguous(cfg, batch):
    backbone = MODELS.build(dict(cfg, _scope_='mmpretrain')).eval()
    assert all(out.is_contiguous() for out in backbone(torch.rand(batch, 3, 64, 64)))


@pytest.mark.parametrize('config', ['demo/mask_rcnn_kw_shapes.py', 'mask_rcnn_kw_r50_1x_coco.py'])
@torch.no_grad()
def test_regions_of_one_image_are_those_of_two(config):
    cfg = load_config(str(ROOT / 'configs' / config))
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    detector = MODELS.build(cfg.model).eval()
    images = torch.rand(1, 3, 96, 96).repeat(2, 1, 1, 1)
    rois = torch.tensor([[0, 10.0, 10.0, 60.0, 60.0], [0, 0.0, 30.0, 90.0, 50.0]])
    levels = detector.roi_head.bbox_roi_extractor.num_inputs
    one, two = (
        detector.roi_head.bbox_roi_extractor(detector.extract_feat(images[:n])[:levels], rois)
        for n in (1, 2)
    )
    assert two.std() > 0
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4 * float(two.abs().max()))
