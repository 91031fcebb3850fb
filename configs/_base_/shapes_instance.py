# The synthetic instance segmentation set of the quickstart (tools/make_shapes.py), in COCO's
# layout.
data_root = 'data/shapes/'
size = (128, 128)  # half the size the images are drawn in
metainfo = dict(
    classes=('ellipse', 'rectangle', 'triangle', 'star', 'cross'),
    palette=[(230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 190, 60), (132, 100, 200)])
dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo)

train_pipeline = [
    dict(type='KWLoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=size),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=dict(backend='whole_image')),
    dict(type='Resize', scale=size),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
        **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='KWCocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric=['bbox', 'segm'])
test_evaluator = val_evaluator
