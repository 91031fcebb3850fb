# ResNet-18 with ECA.
_base_ = './r18_100e_in1k.py'
model = dict(backbone=dict(type='AttentionResNet', attention='eca'))
