# Mask R-CNN, ResNet-50 with KernelWarehouse 1x, plain SGD recipe.
# The config is ours: no figures are published for it.
_base_ = './mask_rcnn_r50_sgd_1x_coco.py'
model = dict(
    backbone=dict(type='KWResNet', budget=1, init_cfg=dict(checkpoint='kw://resnet50-kw1x-imagenet')))
