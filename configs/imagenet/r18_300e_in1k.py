# Plain ResNet-18: the baseline. Paper: top-1 70.44 %.
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='StaticResNet', depth=18),
    head=dict(in_channels=512))
custom_hooks = [dict(type='EpochSeedHook')]
