# Sharing range: within a layer.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(sharing_range='layer'))
