# ResNet-18 with KernelWarehouse 2x. Paper: top-1 75.19 %.
_base_ = './kw_r18_300e_in1k.py'
model = dict(backbone=dict(budget=2))
