# ConvNeXt-Tiny with KernelWarehouse 3/4x, as in the paper's text; no model of it is published.
_base_ = './kw_convnext-t_300e_in1k.py'
model = dict(backbone=dict(budget=3 / 4, split_stage3=True))
