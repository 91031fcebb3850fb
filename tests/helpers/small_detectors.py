"""Small detectors of every kind that goes into a file, with weights that find something."""

import torch
from run_tools import ROOT
from torch import nn

from kw_mm.building import build_model
from kw_mm.run_config import load_config

SMALL = {
    'model.backbone': dict(
        _delete_=True,
        type='StaticResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(0, 1),
    ),
    'model.neck.in_channels': [8, 16],
    'model.neck.out_channels': 16,
    'model.neck.num_outs': 3,
}
TWO_STAGES = {
    **SMALL,
    'model.rpn_head.in_channels': 16,
    'model.rpn_head.feat_channels': 16,
    'model.rpn_head.anchor_generator.scales': [4],
    'model.rpn_head.anchor_generator.strides': [4, 8, 16],
    'model.roi_head.bbox_roi_extractor.out_channels': 16,
    'model.roi_head.bbox_head.in_channels': 16,
    'model.roi_head.bbox_head.fc_out_channels': 32,
    'model.test_cfg.rpn.nms_pre': 60,
    'model.test_cfg.rpn.max_per_img': 40,
}
MASKS = {
    'model.roi_head.mask_roi_extractor.out_channels': 16,
    'model.roi_head.mask_head.in_channels': 16,
    'model.roi_head.mask_head.conv_out_channels': 16,
    'model.roi_head.mask_head.num_convs': 1,
}
SHAPES = 'demo/mask_rcnn_kw_shapes.py'


def pyramid(*parts):
    """Options for regions from all levels, sampled at every pixel."""
    own = {'featmap_strides': [4, 8], 'finest_scale': 14, 'roi_layer.sampling_ratio': 0}
    return {
        f'model.roi_head.{part}_roi_extractor.{key}': value
        for part in parts
        for key, value in own.items()
    }


CONFIGS = {
    'mask rcnn': (SHAPES, {**TWO_STAGES, **MASKS, **pyramid('bbox', 'mask')}),
    'mask rcnn, one level': (SHAPES, {**TWO_STAGES, **MASKS}),
    'faster rcnn': (
        SHAPES,
        {
            **TWO_STAGES,
            **pyramid('bbox'),
            'model.type': 'FasterRCNN',
            'model.roi_head.mask_roi_extractor': None,
            'model.roi_head.mask_head': None,
        },
    ),
    'retinanet': (
        'retinanet_kw_r50_1x_coco.py',
        {
            **SMALL,
            'model.neck.start_level': 0,
            'model.bbox_head.in_channels': 16,
            'model.bbox_head.feat_channels': 16,
            'model.bbox_head.stacked_convs': 1,
            'model.bbox_head.num_classes': 5,
            'model.bbox_head.anchor_generator.strides': [4, 8, 16],
            'model.test_cfg.nms_pre': 50,
        },
    ),
}


@torch.no_grad()
def detector(name, options=None):
    """A detector in eval mode that finds things in pictures, and its config."""
    config, own = CONFIGS[name]
    cfg = load_config(str(ROOT / 'configs' / config), {**own, **(options or {})})
    model = build_model(cfg).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    images = torch.randn(4, 3, 96, 128)
    features = model.extract_feat(images)
    model.eval()
    if hasattr(model, 'rpn_head'):
        spread(model.rpn_head.rpn_cls, model.rpn_head, features, 1.5)
    else:
        spread(model.bbox_head.retina_cls, model.bbox_head, features, 1.5)
        spread(model.bbox_head.retina_reg, model.bbox_head, features, 0.5)
    if hasattr(model, 'roi_head'):
        boxes = model.roi_head.bbox_head
        regions = torch.rand(64, boxes.in_channels, *boxes.roi_feat_size) * features[0].std()
        spread(boxes.fc_cls, boxes, regions, 1.0)  # no two scores of 1
        spread(boxes.fc_reg, boxes, regions, 0.5)
    return model, cfg


def spread(layer, head, inputs, deviation):
    """Scale a layer's weights so that its outputs have a standard deviation."""
    outputs = []
    handle = layer.register_forward_hook(lambda module, args, out: outputs.append(out.flatten()))
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    head(inputs)
    handle.remove()
    layer.weight.mul_(deviation / torch.cat(outputs).std())
