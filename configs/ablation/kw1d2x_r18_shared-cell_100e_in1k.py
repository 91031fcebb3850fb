# Start at budget 1/2: two mixtures from the same cell, in place of one from a cell and one from the
# zero cell.
_base_ = '../imagenet/kw1d2x_r18_100e_in1k.py'
model = dict(backbone=dict(start='shared_cell', zero_cell=False))
