# ImageNet, 100 epochs, for dynamic convolutions with a softmax temperature: 30 -> 1 over the
# first 10 epochs.
_base_ = './imagenet_100e.py'
custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='AttentionTemperatureHook', duration=10, begin=30, end=1)
]
