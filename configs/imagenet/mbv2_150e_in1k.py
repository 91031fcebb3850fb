# Plain MobileNetV2 1.0: the baseline. Paper: top-1 72.04 %.
_base_ = '../_base_/imagenet_150e.py'
model = dict(backbone=dict(type='StaticMobileNetV2', widen_factor=1.0))
custom_hooks = [dict(type='EpochSeedHook')]
