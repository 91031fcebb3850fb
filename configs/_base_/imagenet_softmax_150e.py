# ImageNet, 150 epochs, for dynamic convolutions with a softmax temperature: ODConv's recipe. SGD
# 0.05 without Nesterov momentum, everything decays, cosine down to 0 once an epoch, temperature
# 30 -> 1 over the first 10 epochs.
_base_ = './imagenet_150e.py'

optim_wrapper = dict(optimizer=dict(nesterov=False), paramwise_cfg=None)
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', by_epoch=True, begin=0, end=150)
custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='AttentionTemperatureHook', duration=10, begin=30, end=1)
]
