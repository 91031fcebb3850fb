# MobileNetV2 1.0 with KernelWarehouse 4x. Paper: top-1 75.92 %.
_base_ = './kw_mbv2_150e_in1k.py'
model = dict(backbone=dict(budget=4))
