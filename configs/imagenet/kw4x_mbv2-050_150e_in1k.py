# MobileNetV2 0.5 with KernelWarehouse 4x. Paper: top-1 70.26 %.
_base_ = './kw_mbv2-050_150e_in1k.py'
model = dict(backbone=dict(budget=4))
