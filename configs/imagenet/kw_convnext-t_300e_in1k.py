# ConvNeXt-Tiny with KernelWarehouse 1x.
# Paper: top-1 82.51 %, with more drop path and, like the baseline, averaged weights.
_base_ = './convnext-t_300e_in1k.py'
model = dict(backbone=dict(type='KWConvNeXt', budget=1, drop_path_rate=0.3))
custom_hooks = [
    dict(type='EpochSeedHook'),
    dict(type='AttentionTemperatureHook', duration=20),
    _base_.averaging,
]
