# Attention function: CAF without negative weights, max(z, 0) over its sum.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(attention_function='relu'))
