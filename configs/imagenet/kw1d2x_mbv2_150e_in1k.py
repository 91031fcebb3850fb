# MobileNetV2 1.0 with KernelWarehouse 1/2x, classifier included. Paper: top-1 72.59 %.
_base_ = './kw_mbv2_150e_in1k.py'
model = dict(backbone=dict(budget=1 / 2), head=dict(type='KWLinearClsHead', budget=1 / 2))
