# MobileNetV2 0.5 with KernelWarehouse 1/2x, classifier included. Paper: top-1 65.20 %.
_base_ = './kw_mbv2-050_150e_in1k.py'
model = dict(backbone=dict(budget=1 / 2), head=dict(type='KWLinearClsHead', budget=1 / 2))
