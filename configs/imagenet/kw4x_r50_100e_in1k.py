# ResNet-50 with KernelWarehouse 4x.
_base_ = './kw_r50_100e_in1k.py'
model = dict(backbone=dict(budget=4))
