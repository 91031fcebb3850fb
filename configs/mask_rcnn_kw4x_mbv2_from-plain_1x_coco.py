# Mask R-CNN, MobileNetV2 with KernelWarehouse 4x, from torchvision's plain ImageNet weights:
# it begins as the plain network, and no other file is needed.
# Under norm_eval a batch norm in the attention would never see its statistics: LN.
_base_ = './mask_rcnn_kw4x_mbv2_1x_coco.py'
model = dict(
    backbone=dict(
        attention_norm='LN',
        init_cfg=dict(checkpoint='torchvision://mobilenet_v2')))
