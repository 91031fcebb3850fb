# Mask R-CNN 1x as KernelWarehouse published it:
# mmdet's FPN model and schedule with AdamW and DETR's augmentation.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='EpochSeedHook')]  # a resumed run repeats the uninterrupted one
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))

scales = [(480, 1333), (512, 1333), (544, 1333), (576, 1333), (608, 1333), (640, 1333),
          (672, 1333), (704, 1333), (736, 1333), (768, 1333), (800, 1333)]
resize = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
resize_crop_resize = [
    dict(
        type='RandomChoiceResize',
        scales=[(400, 1333), (500, 1333), (600, 1333)],
        keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=(384, 600),
        allow_negative_crop=True),
    resize,
]
train_pipeline = [
    dict(type='KWLoadImageFromFile', backend_args={{_base_.backend_args}}),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], resize_crop_resize]),
    dict(type='PackDetInputs'),
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

# Steps at 8 and 11 of 12 epochs and 500 warm-up iterations are mmdet's. 'norm' reaches, by name,
# only the norms of the attention branches: kept for parity with the published runs.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={'norm': dict(decay_mult=0.)}))
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2 images
