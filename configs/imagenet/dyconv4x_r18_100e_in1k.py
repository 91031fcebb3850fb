# ResNet-18 with DY-Conv 4x, 45.47 M. Reported, in others' comparison: top-1 72.76 %.
_base_ = '../_base_/imagenet_softmax_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=18, conv=dict(type='DYConv2d', num_kernels=4)),
    head=dict(in_channels=512))
