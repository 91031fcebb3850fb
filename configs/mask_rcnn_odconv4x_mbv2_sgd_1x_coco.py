# Mask R-CNN, MobileNetV2 with ODConv 4x, plain SGD recipe.
# Reported by ODConv's repository: box AP 36.0, mask AP 33.0.
_base_ = './mask_rcnn_mbv2_sgd_1x_coco.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        conv=dict(type='ODConv2d', num_kernels=4),
        init_cfg=dict(checkpoint='kw://mobilenetv2-odconv4x-imagenet')))
