# Cell size: half the greatest common divisor of the channels.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(cell_ratio=(1 / 2, 1 / 2)))
