# ResNet-18 with context-gated convolutions, the stem's among them. Published size 11.69 M; the
# authors' layer makes 11.72 M.
_base_ = './r18_100e_in1k.py'
model = dict(backbone=dict(conv_cfg=dict(type='CGCConv2d')))
