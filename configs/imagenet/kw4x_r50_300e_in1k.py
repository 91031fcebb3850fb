# ResNet-50 with KernelWarehouse 4x. Paper: top-1 81.05 %.
_base_ = './kw_r50_300e_in1k.py'
model = dict(backbone=dict(budget=4))
