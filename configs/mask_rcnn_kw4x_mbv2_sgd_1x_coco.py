# Mask R-CNN, MobileNetV2 with KernelWarehouse 4x, plain SGD recipe.
# The config is ours: no figures are published for it.
_base_ = './mask_rcnn_kw_mbv2_sgd_1x_coco.py'
model = dict(backbone=dict(budget=4, init_cfg=dict(checkpoint='kw://mobilenetv2-kw4x-imagenet')))
