# Mask R-CNN, MobileNetV2 with DY-Conv 4x, from torchvision's plain ImageNet weights:
# it begins as the plain network, and no other file is needed.
_base_ = './mask_rcnn_dyconv4x_mbv2_1x_coco.py'
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint='torchvision://mobilenet_v2')))
