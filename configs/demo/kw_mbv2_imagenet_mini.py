# As kw_r50_imagenet_mini.py, for MobileNetV2.
_base_ = './kw_r50_imagenet_mini.py'
model = dict(
    backbone=dict(_delete_=True, type='KWMobileNetV2', widen_factor=1.0, budget=1),
    head=dict(in_channels=1280))
