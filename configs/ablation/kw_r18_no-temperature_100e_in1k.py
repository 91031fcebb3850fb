# No start: beta = 0 and temperature 0 from the first iteration, z / sum |z| only.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(start='none'))
custom_hooks = [dict(type='EpochSeedHook')]
