# Mask R-CNN, ResNet-50 with KernelWarehouse 1/2x.
# The detection config is ours: none was published for this budget.
_base_ = './mask_rcnn_kw_r50_1x_coco.py'
model = dict(backbone=dict(budget=1 / 2, init_cfg=dict(checkpoint='kw://resnet50-kw1d2x-imagenet')))
