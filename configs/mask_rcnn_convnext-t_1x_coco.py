# Mask R-CNN, plain ConvNeXt-Tiny: the baseline of the KernelWarehouse config, same recipe.
# Paper: box AP 43.4, mask AP 39.7.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticConvNeXt',
        arch='tiny',
        out_indices=[0, 1, 2, 3],
        gap_before_final_norm=False,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='kw://convnext-tiny-imagenet')),
    neck=dict(in_channels=[96, 192, 384, 768]))

# mmdet's constructor (it knows a ConvNeXt by its class name): learning rate x 0.95 for every layer
# further from the heads. By its rule, what is not under downsample_layers or stages has the full
# rate: output norms and, with KernelWarehouse, the warehouses. That is how the published model was
# trained.
optim_wrapper = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.95, decay_type='layer_wise', num_layers=6))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[9, 11], gamma=0.1)]
