# ResNet-18 with KernelWarehouse 1x.
_base_ = '../_base_/imagenet_100e.py'
model = dict(
    backbone=dict(type='KWResNet', depth=18, budget=1),
    head=dict(in_channels=512, init_cfg=None))  # published: torch's own start
