# ResNet-18 with DCD in all 3x3 layers and the classifier, 14.70 M.
# Reported, in others' comparison: top-1 72.33 %.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='DynamicResNet', depth=18, conv=dict(type='DCDConv2d', init='published')),
    head=dict(type='DynamicLinearClsHead', in_channels=512, linear=dict(type='DCDLinear')))
custom_hooks = [dict(type='EpochSeedHook')]  # no temperature
