# Mask R-CNN, ResNet-50 with KernelWarehouse 1x. Paper: box AP 41.8, mask AP 38.4.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='KWResNet',
        depth=50,
        budget=1,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='kw://resnet50-kw1x-imagenet')))
