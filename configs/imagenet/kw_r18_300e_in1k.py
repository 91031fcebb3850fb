# ResNet-18 with KernelWarehouse 1x. Paper: top-1 74.77 %.
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='KWResNet', depth=18, budget=1, drop_path_rate=0.1),
    head=dict(in_channels=512, init_cfg=None))  # published: torch's own start
