# Neither partition, sharing nor CAF: KW 4x is DY-Conv 4x, parameter for parameter (45.47 M).
_base_ = '../imagenet/kw4x_r18_100e_in1k.py'
model = dict(
    backbone=dict(
        partition=False,
        sharing_range='layer',
        attention_function='softmax',
        zero_cell=False,
        attention_norm='none',
        reduction=1 / 4))
custom_hooks = [dict(type='EpochSeedHook')]
