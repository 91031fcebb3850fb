# Mask R-CNN, MobileNetV2 with KernelWarehouse 1x, plain SGD recipe.
# The config is ours: no figures are published for it.
_base_ = './mask_rcnn_mbv2_sgd_1x_coco.py'
model = dict(
    backbone=dict(type='KWMobileNetV2', budget=1, init_cfg=dict(checkpoint='kw://mobilenetv2-kw1x-imagenet')))
