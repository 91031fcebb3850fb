# ResNet-50 with KernelWarehouse 1/2x. Paper: top-1 79.30 %.
_base_ = './kw_r50_300e_in1k.py'
model = dict(backbone=dict(budget=1 / 2))
