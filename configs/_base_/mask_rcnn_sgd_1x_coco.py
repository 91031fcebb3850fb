# Mask R-CNN with mmdet's plain 1x recipe, in which ODConv reported its detectors: SGD 0.02, momentum 0.9, weight decay
# 1e-4, batch 16, 12 epochs with steps at 8 and 11, 1333 x 800 with flips.
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['kw_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='EpochSeedHook')]  # a resumed run repeats the uninterrupted one
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
val_evaluator = dict(type='KWCocoMetric')
test_evaluator = dict(type='KWCocoMetric')
