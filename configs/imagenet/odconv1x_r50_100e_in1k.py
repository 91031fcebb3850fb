# ResNet-50 with ODConv 1x, 28.64 M. Reported by its repository: top-1 77.87 %.
_base_ = '../_base_/imagenet_softmax_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=50, conv=dict(type='ODConv2d', num_kernels=1)))
