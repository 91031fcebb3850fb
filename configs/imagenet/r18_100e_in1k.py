# Plain ResNet-18: the baseline.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='StaticResNet', depth=18),
    head=dict(in_channels=512))
custom_hooks = [dict(type='EpochSeedHook')]
