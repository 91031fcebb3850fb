# MobileNetV2 1.0 with KernelWarehouse 1x. Paper: top-1 74.68 %.
_base_ = '../_base_/imagenet_150e.py'
model = dict(backbone=dict(type='KWMobileNetV2', widen_factor=1.0, budget=1))
