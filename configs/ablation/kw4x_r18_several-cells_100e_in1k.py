# Start at budget 4: every mixture from four cells of its own in place of one.
_base_ = '../imagenet/kw4x_r18_100e_in1k.py'
model = dict(backbone=dict(start='several_cells'))
