# MobileNetV2 1.0 with DY-Conv 4x, 12.40 M.
_base_ = '../_base_/imagenet_softmax_150e.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        widen_factor=1.0,
        conv=dict(type='DYConv2d', num_kernels=4)))
