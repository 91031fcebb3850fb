# Mask R-CNN, ResNet-50 with DY-Conv 4x, plain SGD recipe. No figures are published for it, and no
# ImageNet weights: make them with configs/imagenet/dyconv4x_r50_100e_in1k.py.
_base_ = './mask_rcnn_r50_sgd_1x_coco.py'
model = dict(
    backbone=dict(
        type='DynamicResNet',
        conv=dict(type='DYConv2d', num_kernels=4),
        init_cfg=dict(checkpoint='work_dirs/dyconv4x_r50_100e_in1k/epoch_100.pth')))
