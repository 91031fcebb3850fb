# Mask R-CNN, MobileNetV2 with KernelWarehouse 4x. Paper: box AP 38.0, mask AP 34.9.
_base_ = './mask_rcnn_kw_mbv2_1x_coco.py'
model = dict(backbone=dict(budget=4, init_cfg=dict(checkpoint='kw://mobilenetv2-kw4x-imagenet')))
