# ResNet-18 with ODConv 4x, 44.90 M.
# Reported: top-1 74.19 % (its repository), 73.97 % (in others' comparison).
_base_ = '../_base_/imagenet_softmax_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=18, conv=dict(type='ODConv2d', num_kernels=4)),
    head=dict(type='DynamicLinearClsHead', in_channels=512, dropout=0.2))  # published for 4x
