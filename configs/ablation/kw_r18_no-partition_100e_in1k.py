# No kernel partition: cells are whole kernels, shared by the layers of a stage that have the same
# kernel shape.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(partition=False))
