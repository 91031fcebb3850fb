# mask_rcnn_kw_mbv2_coco_mini.py with KernelWarehouse 4x.
_base_ = './mask_rcnn_kw_mbv2_coco_mini.py'
model = dict(backbone=dict(budget=4))
