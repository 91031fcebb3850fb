# RetinaNet with a KernelWarehouse ResNet-50: a stock mmdet config, schedule and all, in which the
# backbone is another one.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='EpochSeedHook')]  # a resumed run repeats the uninterrupted one
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))

train_pipeline = [
    dict(type='KWLoadImageFromFile', backend_args={{_base_.backend_args}}),
    *_base_.train_pipeline[1:],
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    *_base_.test_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='KWCocoMetric')
test_evaluator = dict(type='KWCocoMetric')

model = dict(
    backbone=dict(
        _delete_=True,
        type='KWResNet',
        depth=50,
        budget=1,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='kw://resnet50-kw1x-imagenet')))
