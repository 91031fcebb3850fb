"""Parts of a model that do not fit together are named before training."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from kw_mm.errors import ConfigError
from kw_mm.models import KWMobileNetV2, KWResNet
from kw_mm.training import model_checks
from kw_mm.training.model_checks import check_model

RESNET = dict(type='KWResNet', depth=18, base_channels=16, budget=1, out_indices=(0, 1, 2, 3))
CHANNELS = [16, 32, 64, 128]
ANCHORS = dict(type='AnchorGenerator', scales=[8], ratios=[1.0])
RPN = dict(
    type='RPNHead',
    in_channels=16,
    feat_channels=16,
    bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
    loss_bbox=dict(type='L1Loss'),
)
ROI = dict(
    type='SingleRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
    out_channels=16,
)


class Parts(nn.Module):
    """A model of parts that are built from configs, as detectors name theirs."""

    def __init__(self, **parts):
        super().__init__()
        with DefaultScope.overwrite_default_scope('mmdet'):
            for name, cfg in parts.items():
                roi = name == 'roi_head'
                self.add_module(name, Parts(**cfg) if roi else MODELS.build(cfg))


def rpn(*strides):
    return {**RPN, 'anchor_generator': dict(ANCHORS, strides=list(strides))}


def fpn(channels=CHANNELS, outs=5, **options):
    return dict(type='FPN', in_channels=channels, out_channels=16, num_outs=outs, **options)


def roi(*strides):
    return dict(bbox_roi_extractor=dict(ROI, featmap_strides=list(strides)))


def backbone(**options):
    return {**RESNET, **options}


DC5 = dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3,))
FITTING = {
    'fpn': dict(
        backbone=RESNET, neck=fpn(), rpn_head=rpn(4, 8, 16, 32, 64), roi_head=roi(4, 8, 16)
    ),
    'retina': dict(
        backbone=RESNET,
        neck=fpn(start_level=1, add_extra_convs='on_input'),
        bbox_head=rpn(8, 16, 32, 64, 128),
    ),
    'dc5': dict(backbone=backbone(**DC5), rpn_head=rpn(16), roi_head=roi(16)),
    'c4': dict(
        backbone=backbone(num_stages=3, out_indices=(2,)), rpn_head=rpn(16), roi_head=roi(16)
    ),
    'mobile': dict(
        backbone=dict(type='KWMobileNetV2', widen_factor=0.5, out_indices=(2, 4, 7)),
        neck=fpn([16, 48, 1280], 3),
        rpn_head=rpn(8, 16, 32),
    ),
    'grey': dict(backbone=backbone(in_channels=1), neck=fpn(outs=4), rpn_head=rpn(4, 8, 16, 32)),
    'not powers of two': dict(backbone=RESNET, neck=fpn(), rpn_head=rpn(4, 8, 16, 32, 100)),
}
MISFITS = {
    'a dilated stage lost its stride': (
        dict(backbone=backbone(out_indices=(3,)), rpn_head=rpn(16), roi_head=roi(16)),
        r'strides of model.rpn_head, \[16\], .* arrive there, 32; .*strides=\(1, 2, 2, 2\)',
    ),
    'only pooling expects it': (
        dict(backbone=backbone(out_indices=(3,)), roi_head=roi(16)),
        r'featmap_strides of model.roi_head.bbox_roi_extractor, \[16\].* there, 32; .*_delete_',
    ),
    'one level too few': (
        dict(backbone=RESNET, neck=fpn(outs=4), rpn_head=rpn(4, 8, 16, 32, 64)),
        r'\[4, 8, 16, 32, 64\], .*arrive there, 4, 8, 16, 32;',
    ),
    'a level lower': (
        dict(backbone=RESNET, neck=fpn(), bbox_head=rpn(8, 16, 32, 64, 128)),
        'arrive there, 4, 8, 16, 32, 64;',
    ),
    'a d8 backbone below a pyramid': (
        dict(
            backbone=backbone(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            neck=fpn(),
            rpn_head=rpn(4, 8, 16, 32, 64),
        ),
        r'arrive there, 4, 8, 8, 8, 16; .*dilations=\(1, 1, 2, 4\)',
    ),
    'channels of a deeper network': (
        dict(backbone=RESNET, neck=fpn([64, 128, 256, 512])),
        r'model.neck.in_channels must be the channels of the features, \[16, 32, 64, 128\], got',
    ),
    'fewer outputs': (
        dict(backbone=backbone(out_indices=(3,)), neck=fpn()),
        r'out_indices=\(3,\) gives 1 feature maps, and model.neck.in_channels=.* takes 4',
    ),
}


@pytest.mark.parametrize('name', FITTING)
def test_what_fits_passes_and_is_left_as_it_was(name):
    model = Parts(**FITTING[name]).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    check_model(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]


@pytest.mark.parametrize('name', MISFITS)
def test_a_misfit_is_named_with_both_settings(name):
    parts, message = MISFITS[name]
    with pytest.raises(ConfigError, match=message) as error:
        check_model(Parts(**parts))
    assert '\n' not in str(error.value)


class Segmentor(nn.Module):
    def __init__(self, index, channels):
        super().__init__()
        self.backbone = KWResNet(18, base_channels=16, out_indices=(0, 1, 2, 3))
        self.decode_head = nn.Module()
        self.decode_head.in_index, self.decode_head.in_channels = index, channels
        self.auxiliary_head = nn.ModuleList([self.decode_head])


@pytest.mark.parametrize(
    'index, channels, message',
    [
        (3, 128, ''),
        (-1, 128, ''),
        ([0, 1, 2, 3], CHANNELS, ''),
        ([0, 1, 2, 3], sum(CHANNELS), ''),  # concatenated
        (3, 2048, r'model.decode_head.in_channels must be .*\[128\], got \[2048\]'),
        ([2, 3], [16, 128], r'\[64, 128\], got \[16, 128\]'),
        (4, 128, r'in_index=\[4\] must be of the 4 feature maps'),
    ],
)
def test_heads_of_segmentors(index, channels, message):
    if not message:
        check_model(Segmentor(index, channels))
        return
    with pytest.raises(ConfigError, match=message):
        check_model(Segmentor(index, channels))


def test_the_classifier_takes_the_backbones_channels():
    def classifier(channels):
        head = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=channels)
        neck = dict(type='mmpretrain.GlobalAveragePooling')
        return Parts(backbone=backbone(out_indices=(3,)), neck=neck, head=head)

    check_model(classifier(128))
    with pytest.raises(ConfigError, match=r'model.head.in_channels must be .*\[128\], got \[64\]'):
        check_model(classifier(64))


def test_stages_that_nobody_reads_are_named(monkeypatch):
    lines = []
    monkeypatch.setattr(model_checks, 'print_log', lambda line, **kwargs: lines.append(line))
    check_model(Parts(backbone=backbone(out_indices=(2,)), rpn_head=rpn(16)))
    assert len(lines) == 1 and 'num_stages=3 leaves the others out' in lines[0]
    check_model(Parts(**FITTING['c4']))
    check_model(Parts(backbone=dict(type='KWMobileNetV2', widen_factor=0.5)))
    assert len(lines) == 1


def test_a_strangers_parts_are_left_alone():
    model = Parts(backbone=RESNET, neck=fpn(), rpn_head=rpn(4, 8, 16, 32, 64))
    model.neck.forward = lambda features, more: features
    check_model(model)  # what it needs is not known
    model.backbone = nn.Conv2d(3, 3, 3)
    check_model(model)
    assert isinstance(KWMobileNetV2(0.5), nn.Module)


@pytest.mark.parametrize(
    'base',
    [
        'faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py',
        'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
    ],
)
def test_the_recipe_on_top_of_mmdets_configs(base, tmp_path):
    path = tmp_path / 'own.py'
    model = dict(backbone=dict(type='KWResNet', budget=1, init_cfg=None))
    path.write_text(f"_base_ = 'mmdet::{base}'\nmodel = {model!r}\n")
    with DefaultScope.overwrite_default_scope('mmdet'):
        check_model(MODELS.build(Config.fromfile(path).model))
