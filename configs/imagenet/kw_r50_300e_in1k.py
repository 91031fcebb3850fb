# ResNet-50 with KernelWarehouse 1x. Paper: top-1 80.38 %.
_base_ = '../_base_/imagenet_300e.py'
model = dict(
    backbone=dict(type='KWResNet', depth=50, budget=1, drop_path_rate=0.1),
    head=dict(init_cfg=None))  # published: torch's own start
