# Attention function: CAF without the division by sum |z|.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(attention_function='caf_unnormalised'))
