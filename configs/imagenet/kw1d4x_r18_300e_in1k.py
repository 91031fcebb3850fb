# ResNet-18 with KernelWarehouse 1/4x. Paper: top-1 72.73 %.
_base_ = './kw_r18_300e_in1k.py'
model = dict(
    backbone=dict(budget=1 / 4, drop_path_rate=0.0),
    train_cfg=dict(_delete_=True))  # without mixup and cutmix
