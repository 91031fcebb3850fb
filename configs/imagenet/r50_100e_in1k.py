# Plain ResNet-50: the baseline.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='StaticResNet', depth=50))
custom_hooks = [dict(type='EpochSeedHook')]
