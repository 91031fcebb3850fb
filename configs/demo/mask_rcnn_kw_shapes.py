# The quickstart: a small Mask R-CNN on KWResNet-18, from scratch, temperature annealed 1 -> 0.
# Minutes on two cores.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/shapes_instance.py',
]
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='KWResNet',
        depth=18,
        budget=1,
        stem_channels=32,
        base_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        init='plain'),
    neck=dict(in_channels=[32, 64, 128], out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[6], strides=[4, 8, 16, 32])),
    # all regions from the finest level; one sample per bin: RoIAlign is the slow part on a CPU
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=64, featmap_strides=[4], roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=dict(
            out_channels=64, featmap_strides=[4], roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=5)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=20)))

epochs = 8  # of 125 iterations
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True),
]
custom_hooks = [dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration=4)]
default_hooks = dict(
    logger=dict(interval=25),
    visualization=dict(score_thr=0.5),
    checkpoint=dict(
        type='SafeCheckpointHook',
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP_50',
        rule='greater'))
randomness = dict(seed=0)
