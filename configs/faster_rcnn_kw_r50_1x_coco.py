# Faster R-CNN, ResNet-50 with KernelWarehouse 1x. The detection config is ours: none was published.
_base_ = './faster_rcnn_r50_1x_coco.py'
model = dict(
    backbone=dict(
        type='KWResNet', budget=1, drop_path_rate=0.1, init_cfg=dict(checkpoint='kw://resnet50-kw1x-imagenet')))
