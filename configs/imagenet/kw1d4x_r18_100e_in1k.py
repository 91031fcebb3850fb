# ResNet-18 with KernelWarehouse 1/4x.
_base_ = './kw_r18_100e_in1k.py'
model = dict(backbone=dict(budget=1 / 4))
