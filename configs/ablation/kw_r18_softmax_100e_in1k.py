# Attention function: softmax in place of CAF.
_base_ = '../imagenet/kw_r18_100e_in1k.py'
model = dict(backbone=dict(attention_function='softmax'))
