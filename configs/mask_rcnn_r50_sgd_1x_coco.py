# Mask R-CNN, plain ResNet-50, plain SGD recipe.
# Reported by ODConv's repository: box AP 38.2, mask AP 34.6.
_base_ = './_base_/mask_rcnn_sgd_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')))
