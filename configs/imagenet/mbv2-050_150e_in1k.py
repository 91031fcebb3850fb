# Plain MobileNetV2 0.5: the baseline. Paper: top-1 64.32 %.
_base_ = '../_base_/imagenet_150e.py'
model = dict(backbone=dict(type='StaticMobileNetV2', widen_factor=0.5))
custom_hooks = [dict(type='EpochSeedHook')]
