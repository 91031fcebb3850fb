# Mask R-CNN, ConvNeXt-Tiny with KernelWarehouse 1x. Paper: box AP 44.7, mask AP 40.6 (its table
# calls the model "4x"). The warehouses train with the full learning rate, see
# mask_rcnn_convnext-t_1x_coco.py.
_base_ = './mask_rcnn_convnext-t_1x_coco.py'
model = dict(
    backbone=dict(type='KWConvNeXt', budget=1, init_cfg=dict(checkpoint='kw://convnext-tiny-kw1x-imagenet')))
