# Mask R-CNN, plain MobileNetV2: the baseline of the KernelWarehouse configs, same recipe.
# Paper: box AP 33.8, mask AP 31.7.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticMobileNetV2',
        widen_factor=1.0,
        out_indices=(1, 2, 4, 7),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-imagenet')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
