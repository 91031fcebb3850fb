# Mask R-CNN, MobileNetV2 with KernelWarehouse 1x. Paper: box AP 36.4, mask AP 33.7.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='KWMobileNetV2',
        widen_factor=1.0,
        budget=1,
        out_indices=(1, 2, 4, 7),  # 24, 32, 96 and the last 1280 channels, strides 4, 8, 16, 32
        frozen_stages=2,  # the published frozen_stages=1: stem, 16- and 24-channel stages
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://mobilenetv2-kw1x-imagenet')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
