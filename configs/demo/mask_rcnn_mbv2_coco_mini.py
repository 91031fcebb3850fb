# The static twin of mask_rcnn_kw_mbv2_coco_mini.py: same recipe, no warehouses.
_base_ = './mask_rcnn_kw_mbv2_coco_mini.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticMobileNetV2',
        out_indices=(1, 2, 4, 7),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://mobilenet_v2')))
