# Mask R-CNN, ResNet-50 with ODConv 4x. Paper: box AP 42.1, mask AP 38.6, from ImageNet weights that
# we do not have; these are those of ODConv's own 100 epochs.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DynamicResNet',
        depth=50,
        conv=dict(type='ODConv2d', num_kernels=4),
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://resnet50-odconv4x-imagenet')))
