# ResNet-50 with DY-Conv 4x, 100.88 M.
_base_ = '../_base_/imagenet_softmax_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=50, conv=dict(type='DYConv2d', num_kernels=4)))
