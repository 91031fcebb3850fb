# ImageNet, the 300-epoch recipe of the published ResNets (AdamW, total batch 4096).
# The published settings also name color jitter 0.4; timm, which ran them, does not apply it beside
# RandAugment.
_base_ = [
    # RandAugment m9 mstd0.5, random erasing 0.25, bicubic
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    # 300 epochs, no decay of biases and 1-d parameters
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
data_root = 'data/imagenet'

model = dict(
    type='ImageClassifier',
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

train_pipeline = [dict(type='KWLoadImageFromFile'), *_base_.train_pipeline[1:]]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    *_base_.test_pipeline[1:],
]
# 8 GPUs x 128 x 4 accumulated = 4096
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=4e-3), accumulative_counts=4)
auto_scale_lr = dict(base_batch_size=1024)  # of one iteration, before accumulation
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True)
]
custom_hooks = [dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration=20)]
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
