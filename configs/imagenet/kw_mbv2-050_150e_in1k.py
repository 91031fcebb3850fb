# MobileNetV2 0.5 with KernelWarehouse 1x. Paper: top-1 68.29 %.
_base_ = '../_base_/imagenet_150e.py'
model = dict(backbone=dict(type='KWMobileNetV2', widen_factor=0.5, budget=1))
