# The quickstart with ODConv 4x; its softmax is annealed over the first tenth, as published.
_base_ = './mask_rcnn_shapes.py'

model = dict(backbone=dict(type='DynamicResNet', conv=dict(type='ODConv2d', num_kernels=4)))
custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='AttentionTemperatureHook', duration=1, begin=30, end=1)]
