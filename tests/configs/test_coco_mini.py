"""The configs users run, on real COCO images."""

import json

import pytest
import torch
from golden import Golden
from in_process import run_here
from mmdet.registry import DATASETS, MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from reading_configs import read_config
from run_tools import ROOT
from torch import nn

from kw_mm.checkpoints import read_checkpoint
from kw_mm.checkpoints.state_dicts import for_openmmlab
from kw_mm.compared import DYConv2d, DynamicConv2d, FDConv2d, ODConv2d
from kw_mm.run_config import load_config
from kw_mm.warehouse import kw_layers

CONFIGS = sorted(path.name for path in (ROOT / 'configs').glob('mask_rcnn_*_1x_coco.py'))
SMALL = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(type='PackDetInputs'),
]
FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.nms_pre': 200,
    'model.train_cfg.rpn_proposal.max_per_img': 100,
    'model.train_cfg.rcnn.sampler.num': 32,
    'model.test_cfg.rpn.nms_pre': 200,
    'model.test_cfg.rpn.max_per_img': 100,
}


def test_the_configs_are_there():
    kinds = ('', 'dyconv4x_', 'kw1d2x_', 'kw4x_', 'kw_', 'odconv4x_')
    expected = [
        f'mask_rcnn_{kind}{network}{recipe}_1x_coco.py'
        for recipe in ('', '_sgd')
        for network in ('r50', 'mbv2')
        for kind in kinds
        if (recipe, kind) != ('_sgd', 'kw1d2x_')
    ]
    from_plain = [
        f'mask_rcnn_{kind}_{network}_from-plain_1x_coco.py'
        for kind in ('dyconv4x', 'kw', 'kw4x', 'odconv4x')
        for network in ('r50', 'mbv2')
    ]
    others = [
        f'mask_rcnn_{name}_1x_coco.py' for name in ('convnext-t', 'fdconv_r50', 'kw_convnext-t')
    ]
    assert CONFIGS == sorted(expected + from_plain + others)


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'from-plain' in name])
def test_from_plain_weights_they_are_their_twin_with_layer_norm(name):
    """Under norm_eval the statistics of a new batch norm would stay at 0 and 1."""
    cfg, twin = (read_config(file) for file in (name, name.replace('_from-plain', '')))
    backbone, other = cfg.model.backbone, twin.model.backbone
    assert backbone.norm_eval and backbone.init_cfg.checkpoint.startswith('torchvision://')
    options = backbone if 'kw' in name else backbone.conv
    norm = options.pop('attention_norm', None)
    assert norm == (None if 'dyconv' in name else 'LN')
    other.init_cfg.checkpoint = backbone.init_cfg.checkpoint
    assert cfg.model == twin.model and cfg.optim_wrapper == twin.optim_wrapper


@pytest.mark.parametrize('kind', ['fdconv', 'odconv4x', 'kw'])
def test_configs_of_the_50_image_check_differ_in_their_backbone_only(kind):
    cfg, static = (
        load_config(str(ROOT / f'configs/demo/mask_rcnn_{name}mbv2_coco_mini.py'))
        for name in (f'{kind}_', '')
    )
    backbone, plain = (one.model.pop('backbone') for one in (cfg, static))
    assert cfg.to_dict() == static.to_dict()
    assert backbone.init_cfg == plain.init_cfg and backbone.out_indices == plain.out_indices
    norm = backbone.attention_norm if kind == 'kw' else backbone.conv.attention_norm
    assert norm == 'LN' and backbone.get('frozen_stages', -1) == -1


@pytest.mark.parametrize('name', CONFIGS)
def test_recipe(name):
    cfg = read_config(name)
    optimizer = cfg.optim_wrapper.optimizer
    if '_sgd_' in name:
        assert optimizer == dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4)
        assert [step.get('scale') for step in cfg.train_pipeline if 'Resize' in step.type] == [
            (1333, 800)
        ]
    else:
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
        assert 'momentum' not in optimizer
    assert cfg.train_cfg.max_epochs == 12 and cfg.auto_scale_lr.base_batch_size == 16
    backbone, milestones = cfg.model.backbone, cfg.param_scheduler[1].milestones
    if 'convnext' in name:
        assert (
            milestones == [9, 11]
            and backbone.drop_path_rate == 0.4
            and 'frozen_stages' not in backbone
        )
    else:
        assert (
            milestones == ([10, 11] if 'fdconv' in name else [8, 11])
            and backbone.norm_eval
            and backbone.frozen_stages == (2 if 'mbv2' in name else 1)
        )
        assert backbone.get('drop_path_rate', 0) == (
            0.1 if 'kw' in name and 'r50' in name and '_sgd_' not in name else 0
        )
    assert not any(
        'Temperature' in hook.type for hook in cfg.custom_hooks
    )  # tau = 0 from pretrained weights
    assert len((ROOT / 'configs' / name).read_text().splitlines()) <= 40


@pytest.mark.usefixtures('unfilled')
@pytest.mark.parametrize('name', CONFIGS)
def test_frozen_stages(name):
    cfg = read_config(name)
    backbone = MODELS.build(cfg.model.backbone)
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    assert any(key.startswith('layer1.0.conv') for key in frozen) == ('convnext' not in name)
    assert not any(key.startswith('layer3.') for key in frozen)
    assert bool(kw_layers(backbone)) == ('kw' in name)
    kinds = {type(module) for module in backbone.modules() if isinstance(module, DynamicConv2d)}
    expected = dict(dyconv=DYConv2d, odconv=ODConv2d, fdconv=FDConv2d)
    assert kinds == {expected[kind] for kind in expected if kind in name}


@pytest.mark.parametrize('name', ['mask_rcnn_fdconv_r50', 'faster_rcnn_fdconv_r50'])
def test_only_norms_of_fdconvs_local_attentions_have_no_weight_decay(name):
    cfg = read_config(f'{name}_1x_coco.py')
    small = dict(cfg.model.backbone, depth=18, base_channels=24, stem_channels=24, init_cfg=None)
    model = nn.ModuleDict(dict(backbone=MODELS.build(small)))
    names = {parameter: key for key, parameter in model.named_parameters()}
    spared = {
        names[parameter]
        for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
        if group['weight_decay'] == 0
        for parameter in group['params']
    }
    assert spared == {key for key in names.values() if '.local_attention.norm.' in key} != set()
    assert cfg.train_dataloader.batch_size == 4 and cfg.param_scheduler[1].milestones == [10, 11]


def test_the_published_augmentation_on_real_images(coco_mini):
    cfg = load_config(
        str(ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py'), dict(data_root=str(coco_mini))
    )
    init_default_scope('mmdet')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert all(min(dataset[i]['inputs'].shape[-2:]) >= 384 for i in range(3))


@pytest.fixture
def small_coco_config(tmp_path):
    path = tmp_path / 'small_coco.py'
    path.write_text(f"""
_base_ = {str(ROOT / 'configs/mask_rcnn_kw_r50_1x_coco.py')!r}
data_root = 'data/coco/'
model = dict(backbone=dict(init_cfg=None))
train_pipeline = {SMALL!r}
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_dataloader = dict(num_workers=1, dataset=dict(indices=8, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(indices=4, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
""")
    return path


def test_train_and_test_on_real_images(
    small_coco_config, coco_mini, tmp_path, tool, capsys, monkeypatch
):
    options = [
        '--cfg-options',
        f'data_root={coco_mini}',
        *(f'{key}={value}' for key, value in FEW_REGIONS.items()),
    ]
    tool('train', small_coco_config, '--work-dir', tmp_path / 'train', *options)
    log = [
        json.loads(line)
        for line in next((tmp_path / 'train').glob('*/vis_data/scalars.json'))
        .read_text()
        .splitlines()
    ]
    assert len([line for line in log if 'loss' in line]) == 4
    during = log[-1]
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(during)
    tested = ['test', small_coco_config, tmp_path / 'train/epoch_1.pth']
    options = ['--work-dir', tmp_path / 'test', *options]
    assert run_here(*tested, *options, capsys=capsys, monkeypatch=monkeypatch).code == 0
    after = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text().splitlines()[-1])
    assert {key: after[key] for key in after if 'mAP' in key} == {
        key: during[key] for key in during if 'mAP' in key
    }


CONV = ('weight', 'bias')
MMDET_2_KEYS = [
    *(
        f'neck.{kind}_convs.{i}.conv.{part}'
        for kind in ('lateral', 'fpn')
        for i in range(4)
        for part in CONV
    ),
    *(f'rpn_head.{layer}.{part}' for layer in ('rpn_conv', 'rpn_cls', 'rpn_reg') for part in CONV),
    *(
        f'roi_head.bbox_head.{layer}.{part}'
        for layer in ('fc_cls', 'fc_reg', 'shared_fcs.0', 'shared_fcs.1')
        for part in CONV
    ),
    *(
        f'roi_head.mask_head.{layer}.{part}'
        for layer in (
            'convs.0.conv',
            'convs.1.conv',
            'convs.2.conv',
            'convs.3.conv',
            'upsample',
            'conv_logits',
        )
        for part in CONV
    ),
]


@pytest.mark.parametrize(
    'config, golden',
    [
        ('mask_rcnn_kw_r50_1x_coco.py', 'kw1x_resnet50'),
        ('mask_rcnn_kw_mbv2_1x_coco.py', 'kw1x_mobilenetv2_100'),
    ],
)
def test_a_published_mmdet_2_detector_loads_key_by_key(config, golden, tmp_path):
    """Neck and heads of mmdet 2's Mask R-CNN are called the same in mmdet 3.

    The backbone is in the published layout.
    """
    cfg = load_config(str(ROOT / 'configs' / config))
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    own = model.state_dict()
    assert sorted(key for key in own if not key.startswith('backbone.')) == sorted(MMDET_2_KEYS)
    published = Golden(golden).state_dict()
    checkpoint = {
        f'backbone.{key}': value
        for key, value in published.items()
        if not key.startswith(('fc.', 'classifier.'))
    }
    checkpoint.update({key: torch.randn(own[key].shape) for key in MMDET_2_KEYS})
    path = tmp_path / 'detector.pth'
    torch.save(dict(state_dict=checkpoint, meta=dict(mmdet_version='2.11.0'), optimizer={}), path)
    converted = for_openmmlab(read_checkpoint(str(path)))
    model.load_state_dict(converted['state_dict'])
    assert torch.equal(
        model.roi_head.mask_head.upsample.weight, checkpoint['roi_head.mask_head.upsample.weight']
    )
    assert torch.equal(
        model.backbone.warehouses[list(model.backbone.warehouses)[2]].listed,
        published['warehouse_manager.weights.2'],
    )
