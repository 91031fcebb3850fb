"""Every config that can be run.

Its parts build, its augmentation runs, and so do a training step and a prediction.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, METRICS, MODELS, PARAM_SCHEDULERS, init_default_scope
from mmpretrain.structures import DataSample
from reading_configs import read_config, read_only
from run_tools import ROOT
from torch.nn.modules.batchnorm import _BatchNorm

from kw_mm.run_config import datasets_of

CONFIGS = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
DETECTION_SIZE, CLASSIFICATION_SIZE = 160, 64


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    """A 480 x 640 image file."""
    path = tmp_path_factory.mktemp('pictures') / 'noise.png'
    cv2.imwrite(str(path), np.random.RandomState(0).randint(0, 255, (480, 640, 3), np.uint8))
    return str(path)


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    """COCO annotations of no image."""
    path = tmp_path_factory.mktemp('annotations') / 'none.json'
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    return str(path)


@pytest.fixture(params=CONFIGS)
def cfg(request):
    cfg = read_config(request.param)
    init_default_scope(cfg.default_scope)
    return cfg


def has_a_smaller_twin(cfg):
    """Whether another config has the same network, is no larger, and has its training step.

    Sizes of warehouses, weights and norms of attention make no difference to how the parts of a
    model fit; networks with other sizes are trained in tests/models/test_sweep.py.
    """
    own = str(Path(cfg.filename).relative_to(ROOT / 'configs'))
    twins = [name for name in CONFIGS if network_of(name) == network_of(own)]
    return own != min(twins, key=lambda name: (size_of(read_only(name)), name))


def size_of(cfg):
    """What a network's parameters grow with."""
    backbone = cfg.model.backbone
    return backbone.get('budget', 1) * backbone.get('conv', {}).get('num_kernels', 1)


@cache
def network_of(name):
    cfg = read_only(name)
    model = deepcopy(cfg.model)
    for options in (model.backbone, model.backbone.get('conv', {})):
        for key in ('init_cfg', 'budget', 'num_kernels', 'attention_norm', 'drop_path_rate'):
            options.pop(key, None)
    return model, cfg.get('data_preprocessor')


def is_detector(cfg):
    return cfg.default_scope == 'mmdet'


def small_model(cfg):
    """The model without pretrained weights and with few regions."""
    cfg.model.backbone.init_cfg = None
    train_cfg, test_cfg = cfg.model.get('train_cfg') or {}, cfg.model.get('test_cfg') or {}
    if 'rpn_proposal' in train_cfg:
        for proposals in (train_cfg.rpn_proposal, test_cfg.rpn):
            proposals.update(nms_pre=200, max_per_img=100)
        train_cfg.rcnn.sampler.num = 32
        test_cfg.rcnn.max_per_img = 10  # untrained heads would find 100, with a mask each
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    model.train()
    use_batch_statistics(model)
    return model


def use_batch_statistics(model):
    """Without trained statistics of batch norms, signals would die out or overflow."""
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.train()


def batch(cfg, model):
    """Two images as the dataloader gives them."""
    if is_detector(cfg):
        head = model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head
        size = (3, DETECTION_SIZE, DETECTION_SIZE)
        return demo_mm_inputs(
            2, size, num_items=[3, 4], num_classes=head.num_classes, with_mask=with_masks(model)
        )
    inputs = list(
        torch.randint(0, 255, (2, 3, CLASSIFICATION_SIZE, CLASSIFICATION_SIZE), dtype=torch.uint8)
    )
    return dict(inputs=inputs, data_samples=[DataSample().set_gt_label(i) for i in range(2)])


def with_masks(model):
    return getattr(getattr(model, 'roi_head', None), 'with_mask', False)


def optimizer_of(cfg, model):
    """The optimizer with its schedule, without accumulation, at a low rate for want of warm-up."""
    gentle = dict(cfg.optim_wrapper.optimizer, lr=1e-3 * cfg.optim_wrapper.optimizer.lr)
    optimizer = build_optim_wrapper(
        model, dict(cfg.optim_wrapper, optimizer=gentle, accumulative_counts=1)
    )
    for schedule in (
        cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    ):
        PARAM_SCHEDULERS.build(schedule, default_args=dict(optimizer=optimizer, epoch_length=10))
    return optimizer


def test_a_training_step_and_a_prediction(cfg, request):
    is_twin = has_a_smaller_twin(cfg)
    if is_twin:
        request.getfixturevalue('unfilled')
    model = small_model(cfg)
    if any(hook.type == 'AttentionTemperatureHook' for hook in cfg.get('custom_hooks', [])):
        assert any(hasattr(module, 'set_temperature') for module in model.modules())
    optimizer, data = optimizer_of(cfg, model), batch(cfg, model)
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    if is_twin:  # a training step takes seconds, and only the optimizer is another
        groups = optimizer.optimizer.param_groups
        assert {id(p) for group in groups for p in group['params']} >= set(
            map(id, trained.values())
        )
        return
    broken = []
    optimizer.optimizer.register_step_pre_hook(
        lambda *args: broken.extend(
            key for key, p in trained.items() if p.grad is None or not p.grad.isfinite().all()
        )
    )
    before = {key: p.detach().clone() for key, p in trained.items()}
    logged = model.train_step(data, optimizer)
    assert logged['loss'].isfinite() and not broken, broken
    moved = {key.split('.')[0] for key, p in trained.items() if not torch.equal(p, before[key])}
    assert moved == {key.split('.')[0] for key in trained} and all(
        p.isfinite().all() for p in trained.values()
    )

    model.eval()
    use_batch_statistics(model)
    with torch.no_grad():
        samples = model.test_step(data)
    assert len(samples) == 2
    for sample in samples:
        if is_detector(cfg):
            assert sample.pred_instances.bboxes.shape == (len(sample.pred_instances), 4)
            assert ('masks' in sample.pred_instances) == with_masks(model)
        else:
            assert sample.pred_score.shape == (1000,) and float(
                sample.pred_score.sum()
            ) == pytest.approx(1, abs=1e-3)


def test_augmentation_hooks_and_metrics(cfg, picture, annotations):
    box = [100, 100, 300, 260]
    mask = [[100, 100, 300, 100, 300, 260, 100, 260]]
    source = dict(
        img_path=picture,
        img_id=1,
        height=480,
        width=640,
        gt_label=3,
        instances=[dict(bbox=box, bbox_label=1, mask=mask, ignore_flag=0)],
    )
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        packed = Compose(loader.dataset.pipeline)(dict(source))
        assert packed['inputs'].dtype == torch.uint8 and len(packed['inputs']) == 3
        assert 'gt_instances' in packed['data_samples'] or packed['data_samples'].gt_label == 3
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(dict(hook))
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        METRICS.build(
            dict(evaluator, ann_file=annotations) if 'ann_file' in evaluator else evaluator
        )


@pytest.mark.parametrize(
    'name', ['mask_rcnn_convnext-t_1x_coco.py', 'mask_rcnn_kw_convnext-t_1x_coco.py']
)
def test_layer_wise_learning_rates_of_convnext(name):
    """0.95 per layer away from the heads.

    Warehouses fall through mmdet's rule to the full rate, as published.
    """
    cfg = read_config(name)
    init_default_scope(cfg.default_scope)
    model = small_model(cfg)
    names = {parameter: key for key, parameter in model.named_parameters()}
    rates, decay = {}, {}
    for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups:
        keys = [names[parameter] for parameter in group['params']]
        rates.update(dict.fromkeys(keys, group['lr'] / cfg.optim_wrapper.optimizer.lr))
        decay.update(dict.fromkeys(keys, group['weight_decay']))
    layer = 'depthwise_conv.bias'
    depths = {
        'backbone.downsample_layers.0.0.bias': 7,
        f'backbone.stages.0.2.{layer}': 6,
        f'backbone.stages.1.0.{layer}': 5,
        f'backbone.stages.2.0.{layer}': 4,
        f'backbone.stages.2.8.{layer}': 2,
        f'backbone.stages.3.0.{layer}': 1,
        'backbone.norm3.weight': 0,
        'neck.fpn_convs.0.conv.weight': 0,
    }
    for key, depth in depths.items():
        assert rates[key] == pytest.approx(0.95**depth), key
    cells = [key for key in rates if key.endswith('.cells')]
    assert len(cells) == (12 if 'kw' in name else 0)
    assert all(rates[key] == 1 and decay[key] == 0.05 for key in cells)
    if cells:
        attention = 'backbone.stages.0.0.depthwise_conv.attention'
        assert rates[f'{attention}.fc2.weight'] == pytest.approx(0.95**6)
        assert decay[f'{attention}.fc2.weight'] == 0.05 and decay[f'{attention}.norm1.weight'] == 0


def test_the_hooks_metric_and_image_loading_are_ours(cfg):
    assert 'EpochSeedHook' in [hook.type for hook in cfg.custom_hooks]
    for split in ('train', 'val', 'test'):
        pipelines = [dataset.pipeline for _, dataset in datasets_of(cfg, split)]
        loaders = [steps[0] for steps in pipelines]
        if split == 'train':
            assert {loader.type for loader in loaders} == {'KWLoadImageFromFile'}
        else:  # by the name that OpenMMLab's inferencers look for
            assert {loader.type for loader in loaders} == {'LoadImageFromFile'}
            assert all(loader.backend_args == dict(backend='whole_image') for loader in loaders)
    if is_detector(cfg):
        assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'KWCocoMetric'
