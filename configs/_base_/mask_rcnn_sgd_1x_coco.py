# Mask R-CNN with mmdet's plain 1x recipe, in which ODConv reported its detectors: SGD 0.02,
# momentum 0.9, weight decay 1e-4, batch 16, 12 epochs with steps at 8 and 11, 1333 x 800 with
# flips.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
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
