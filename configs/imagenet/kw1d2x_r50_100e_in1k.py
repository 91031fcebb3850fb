# ResNet-50 with KernelWarehouse 1/2x.
_base_ = './kw_r50_100e_in1k.py'
model = dict(backbone=dict(budget=1 / 2))
