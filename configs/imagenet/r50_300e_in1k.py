# Plain ResNet-50: the baseline. Paper: top-1 78.44 %.
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='StaticResNet', depth=50, drop_path_rate=0.1))
custom_hooks = [dict(type='EpochSeedHook')]
