# Mask R-CNN, MobileNetV2 with DY-Conv 4x, plain SGD recipe. No figures are published for it, and no
# ImageNet weights: make them with configs/imagenet/dyconv4x_mbv2_150e_in1k.py.
_base_ = './mask_rcnn_mbv2_sgd_1x_coco.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        conv=dict(type='DYConv2d', num_kernels=4),
        init_cfg=dict(checkpoint='work_dirs/dyconv4x_mbv2_150e_in1k/epoch_150.pth')))
