# mask_rcnn_kw_mbv2_coco_mini.py with FDConv in the 1x1 layers; depthwise layers and those of fewer
# than 17 channels stay plain, as published. It begins as the plain network, too.
_base_ = './mask_rcnn_mbv2_coco_mini.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        conv=dict(type='FDConv2d', kernel_num=64, attention_norm='LN')))
