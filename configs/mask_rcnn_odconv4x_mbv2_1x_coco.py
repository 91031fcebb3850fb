# Mask R-CNN, MobileNetV2 with ODConv 4x. The paper's figures in this recipe are not known to us.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DynamicMobileNetV2',
        widen_factor=1.0,
        conv=dict(type='ODConv2d', num_kernels=4),
        out_indices=(1, 2, 4, 7),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-odconv4x-imagenet')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
