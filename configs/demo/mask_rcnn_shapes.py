# The static twin of the quickstart: same recipe, no warehouses.
_base_ = './mask_rcnn_kw_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='StaticResNet',
        depth=18,
        stem_channels=32,
        base_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2)))
custom_hooks = [dict(type='EpochSeedHook')]
