# The quickstart with DY-Conv 4x.
_base_ = './mask_rcnn_odconv4x_shapes.py'

model = dict(backbone=dict(conv=dict(_delete_=True, type='DYConv2d', num_kernels=4)))
