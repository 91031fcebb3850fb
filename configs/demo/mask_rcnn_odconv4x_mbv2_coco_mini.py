# mask_rcnn_kw_mbv2_coco_mini.py with ODConv 4x, which begins as the plain network, too.
_base_ = './mask_rcnn_mbv2_coco_mini.py'
model = dict(
    backbone=dict(
        type='DynamicMobileNetV2',
        conv=dict(type='ODConv2d', num_kernels=4, attention_norm='LN')))
