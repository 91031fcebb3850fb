# ImageNet, the traditional 100-epoch recipe: SGD 0.1, batch 256, weight decay 1e-4, steps at 30,
# 60 and 90.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
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
        loss=dict(type='CrossEntropyLoss')))

train_pipeline = [dict(type='KWLoadImageFromFile'), *_base_.train_pipeline[1:]]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    *_base_.test_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

custom_hooks = [dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration=10)]
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
