# ResNet-18 with CBAM (reduction 1/16).
_base_ = './r18_100e_in1k.py'
model = dict(backbone=dict(type='AttentionResNet', attention='cbam'))
