# ResNet-50 with KernelWarehouse 1x.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='KWResNet', depth=50, budget=1),
    head=dict(init_cfg=None))  # published: torch's own start
