# Mask R-CNN, MobileNetV2 with DY-Conv 4x. The paper's figures in this recipe are not known to us.
# No ImageNet weights are published: make them with configs/imagenet/dyconv4x_mbv2_150e_in1k.py.
_base_ = './mask_rcnn_odconv4x_mbv2_1x_coco.py'
model = dict(
    backbone=dict(
        conv=dict(type='DYConv2d'),
        init_cfg=dict(checkpoint='work_dirs/dyconv4x_mbv2_150e_in1k/epoch_150.pth')))
