# Plain ConvNeXt-Tiny: the baseline. Paper: top-1 82.07 %, of averaged weights (decay 0.9999).
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='StaticConvNeXt', arch='tiny', drop_path_rate=0.1),
    neck=None,  # the backbone pools before its last norm
    head=dict(in_channels=768, init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02)))
# averaged once an optimizer step, which takes four iterations (accumulative_counts)
averaging = dict(type='EMAHook', momentum=1e-4, interval=4, priority='ABOVE_NORMAL')
custom_hooks = [dict(type='EpochSeedHook'), averaging]
