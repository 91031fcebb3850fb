# Faster R-CNN, ResNet-50 with KernelWarehouse 4x. The detection config is ours: none was published.
_base_ = './faster_rcnn_kw_r50_1x_coco.py'
model = dict(backbone=dict(budget=4, init_cfg=dict(checkpoint='kw://resnet50-kw4x-imagenet')))
