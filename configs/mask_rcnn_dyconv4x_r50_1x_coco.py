# Mask R-CNN, ResNet-50 with DY-Conv 4x. Paper: box AP 39.6, mask AP 36.6. No ImageNet weights are
# published: make them with configs/imagenet/dyconv4x_r50_100e_in1k.py, or start from a plain
# network's, whose kernel becomes all four.
_base_ = './mask_rcnn_odconv4x_r50_1x_coco.py'
model = dict(
    backbone=dict(
        conv=dict(type='DYConv2d'),
        init_cfg=dict(checkpoint='work_dirs/dyconv4x_r50_100e_in1k/epoch_100.pth')))
