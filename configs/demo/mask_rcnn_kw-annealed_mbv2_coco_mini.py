# mask_rcnn_kw_mbv2_coco_mini.py with the published start: random attention, plain kernels in the
# start cells, temperature annealed 1 -> 0. A thousand iterations are few: the attention must learn,
# before the temperature is down, what ImageNet training has hundreds of thousands for. It gets
# larger steps, and the temperature falls slowly.
_base_ = './mask_rcnn_kw_mbv2_coco_mini.py'

model = dict(backbone=dict(attention_start='published'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'attention': dict(lr_mult=20.)}))
custom_hooks = [dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration=50)]
