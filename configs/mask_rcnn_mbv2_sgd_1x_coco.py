# Mask R-CNN, plain MobileNetV2, plain SGD recipe.
# Reported by ODConv's repository: box AP 32.4, mask AP 29.8.
_base_ = './_base_/mask_rcnn_sgd_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticMobileNetV2',
        widen_factor=1.0,
        out_indices=(1, 2, 4, 7),
        frozen_stages=2,  # as published: stem, 16- and 24-channel stages
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
