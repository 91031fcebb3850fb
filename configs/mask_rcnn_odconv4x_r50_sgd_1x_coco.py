# Mask R-CNN, ResNet-50 with ODConv 4x, plain SGD recipe.
# Reported by ODConv's repository: box AP 40.2, mask AP 36.1.
_base_ = './mask_rcnn_r50_sgd_1x_coco.py'
model = dict(
    backbone=dict(
        type='DynamicResNet',
        conv=dict(type='ODConv2d', num_kernels=4),
        init_cfg=dict(checkpoint='kw://resnet50-odconv4x-imagenet')))
