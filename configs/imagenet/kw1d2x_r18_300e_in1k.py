# ResNet-18 with KernelWarehouse 1/2x. Paper: top-1 73.33 %.
_base_ = './kw_r18_300e_in1k.py'
model = dict(backbone=dict(budget=1 / 2, drop_path_rate=0.0))
