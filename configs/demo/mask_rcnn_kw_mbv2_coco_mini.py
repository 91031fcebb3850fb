# Proof of the whole chain on a CPU: a KW network that begins as the plain one with its ImageNet
# weights, at temperature 0, in Mask R-CNN fine-tuned on 50 real COCO images and evaluated on the
# same 50. Overfitting on purpose.
_base_ = '../mask_rcnn_kw_mbv2_1x_coco.py'

model = dict(
    backbone=dict(
        frozen_stages=-1,
        norm_eval=False,  # statistics must follow the kernels, which change much in so few steps
        attention_norm='LN',  # four images are too few for statistics of pooled vectors
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://mobilenet_v2')),
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(in_channels=128, conv_out_channels=128)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))

size = dict(type='Resize', scale=(320, 320), keep_ratio=True)
train_pipeline = [
    dict(type='KWLoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    size,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    size,
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_annotations = 'annotations/instances_train2017.json'
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        ann_file=train_annotations,
        data_prefix=dict(img='train2017/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/coco/' + train_annotations)
test_evaluator = val_evaluator

epochs = 100  # of 13 iterations
train_cfg = dict(max_epochs=epochs, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=epochs, milestones=[88, 96], gamma=0.1)]
custom_hooks = [dict(type='EpochSeedHook')]
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=10, max_keep_ckpts=2))
randomness = dict(seed=0)
