# ResNet-18 with WeightNet in its 3x3 and 7x7 convolutions. With 8 hidden units at least (authors'
# code: 16) it has the published 11.93 M.
_base_ = './r18_100e_in1k.py'
model = dict(backbone=dict(conv_cfg=dict(type='WeightNetConv2d', min_hidden=8, pointwise=False)))
