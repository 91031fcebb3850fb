# Faster R-CNN, plain ResNet-50: the baseline of the KernelWarehouse configs, same recipe.
# Not published in this recipe.
_base_ = './_base_/faster_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://resnet50-imagenet')))
