# DeiT-Tiny with KernelWarehouse 1x.
# Paper: top-1 76.51 % for a DeiT-Tiny whose budget and sharing we do not know.
_base_ = './deit-t_300e_in1k.py'
model = dict(backbone=dict(type='KWVisionTransformer', budget=1))
custom_hooks = [dict(type='EpochSeedHook'), dict(type='AttentionTemperatureHook', duration=20)]
