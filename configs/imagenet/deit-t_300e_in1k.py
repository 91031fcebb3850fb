# Plain DeiT-Tiny: the baseline, with mmpretrain's recipe for it. Paper: top-1 72.13 %.
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='StaticVisionTransformer', arch='deit-tiny'),
    neck=None,  # the output is the class token
    head=dict(in_channels=192, init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02)))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    accumulative_counts=1,  # 8 GPUs x 128 = 1024
    paramwise_cfg=dict(
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0)
        }),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True)
]
custom_hooks = [dict(type='EpochSeedHook')]
