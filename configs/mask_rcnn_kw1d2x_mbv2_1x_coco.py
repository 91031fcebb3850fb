# Mask R-CNN, MobileNetV2 with KernelWarehouse 1/2x.
# The detection config is ours: none was published for this budget.
_base_ = './mask_rcnn_kw_mbv2_1x_coco.py'
model = dict(backbone=dict(budget=1 / 2, init_cfg=dict(checkpoint='kw://mobilenetv2-kw1d2x-imagenet')))
