# ResNet-18 with KernelWarehouse 4x. Paper: top-1 76.05 %.
_base_ = './kw_r18_300e_in1k.py'
model = dict(backbone=dict(budget=4))
