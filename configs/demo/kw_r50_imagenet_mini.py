# Plain ResNet-50 weights in the warehouses, temperature 0: still the plain network, evaluated on a
# folder of images with an annotation file of "name class" lines. Other budgets:
# --cfg-options model.backbone.budget=4
_base_ = '../imagenet/kw_r50_100e_in1k.py'
data_root = 'data/imagenet_mini'

dataset = dict(data_root=data_root, split='', data_prefix='val', ann_file='val.txt')
pipeline = [  # torchvision's weights were made with Pillow's bilinear resizing
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=16, num_workers=0, persistent_workers=False, dataset=dataset)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=False,
    dataset=dict(pipeline=pipeline, **dataset))
test_dataloader = val_dataloader
