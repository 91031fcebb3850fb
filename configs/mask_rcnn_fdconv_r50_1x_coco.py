# Mask R-CNN, ResNet-50 with FDConv. Paper: box AP 42.4, mask AP 38.6, with this recipe: AdamW 1e-4,
# 4 images a GPU, steps at 10 and 11 of 12 epochs, fp16 (add --amp). The network starts as the plain
# one, exactly; init='published' in conv has the start of the published code, which does not.
# attention_norm='LN' in conv normalises under norm_eval, too, which the published norm does not.
_base_ = './_base_/mask_rcnn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='DynamicResNet',
        depth=50,
        conv=dict(type='FDConv2d', kernel_num=64),
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,  # the attentions of stage 1 train, as published
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')))

train_dataloader = dict(batch_size=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[10, 11], gamma=0.1),
]
# Published: only the norms of the local attentions have no weight decay.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.attention.norm': dict(decay_mult=1.)}))
