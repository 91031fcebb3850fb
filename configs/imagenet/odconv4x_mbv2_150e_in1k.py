# MobileNetV2 1.0 with ODConv 4x, 11.51 M. Reported by its repository: top-1 75.29 %.
_base_ = '../_base_/imagenet_softmax_150e.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        widen_factor=1.0,
        conv=dict(type='ODConv2d', num_kernels=4)),
    head=dict(type='DynamicLinearClsHead', dropout=0.2))  # published for 4x
