# Sharing range: across two stages.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(sharing_range='two_stages'))
