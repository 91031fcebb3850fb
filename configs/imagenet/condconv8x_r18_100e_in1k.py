# ResNet-18 with CondConv 8x in the last three blocks and the classifier, 81.35 M.
# Reported, in others' comparison: top-1 71.99 %.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=18, conv=dict(type='CondConv2d', num_kernels=8)),
    head=dict(
        type='DynamicLinearClsHead',
        in_channels=512,
        linear=dict(type='CondLinear', num_kernels=8)))
custom_hooks = [dict(type='EpochSeedHook')]  # a sigmoid routing has no temperature
