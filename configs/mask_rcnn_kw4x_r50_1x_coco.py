# Mask R-CNN, ResNet-50 with KernelWarehouse 4x. Paper: box AP 42.4, mask AP 38.9.
_base_ = './mask_rcnn_kw_r50_1x_coco.py'
model = dict(backbone=dict(budget=4, init_cfg=dict(checkpoint='kw://resnet50-kw4x-imagenet')))
