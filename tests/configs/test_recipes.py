"""The published recipes: parameter groups, first values and averaging, of every published config.

They are those of the authors' code (https://github.com/OSVAI/KernelWarehouse), by its settings.
"""

import math
import re

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, init_default_scope
from reading_configs import read_config, read_only
from run_tools import ROOT
from torch import nn

from kw_mm.checkpoints.layouts import LAYER_SCALE
from kw_mm.training.resuming import reorder_old_state

KW_MOBILE = [
    f'{kind}mbv2{width}_150e_in1k'
    for kind in ('', 'kw_', 'kw4x_', 'kw1d2x_')
    for width in ('', '-050')
]
SOFTMAX_MOBILE = ['odconv4x_mbv2_150e_in1k', 'dyconv4x_mbv2_150e_in1k']


def read(name):
    cfg = read_config(f'imagenet/{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def small(cfg):
    """The config's model with few channels: how parameters are named and shaped is the same."""
    backbone = cfg.model.backbone
    if 'ConvNeXt' in backbone.type:
        backbone.arch = dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32])
        cfg.model.head.in_channels = 32
    cfg.model.head.num_classes = 20
    return MODELS.build(cfg.model)


def groups_of(cfg, model):
    """{name of a parameter: its group} in the optimizer."""
    optim = dict(cfg.optim_wrapper, accumulative_counts=1)
    optimizer = build_optim_wrapper(model, optim).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group
        for group in optimizer.param_groups
        for parameter in group['params']
    }


def is_flat(name, parameter):
    return parameter.dim() == 1 or name.endswith('.bias')


def test_all_mobilenets_of_kernelwarehouse_have_one_recipe():
    first, *others = map(read, KW_MOBILE)
    for cfg in others:
        for part in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
            assert cfg[part] == first[part], (cfg.filename, part)


@pytest.mark.parametrize('name', [KW_MOBILE[1], KW_MOBILE[3], KW_MOBILE[7]])
def test_mobilenets_of_kernelwarehouse(name):
    cfg = read(name)
    model = small(cfg)
    groups, parameters = groups_of(cfg, model), dict(model.named_parameters())
    assert set(groups) == set(parameters)
    for key, group in groups.items():
        assert group['weight_decay'] == (0 if is_flat(key, parameters[key]) else 4e-5), key
        assert (group['lr'], group['momentum'], group['nesterov']) == (0.05, 0.9, True)
    schedule = cfg.param_scheduler
    assert (schedule.type, schedule.eta_min, schedule.end) == ('CosineAnnealingLR', 1e-6, 150)
    assert schedule.convert_to_iter_based and cfg.train_cfg.max_epochs == 150


@pytest.mark.parametrize('name', SOFTMAX_MOBILE)
def test_mobilenets_of_odconv_keep_their_own(name):
    cfg = read(name)
    groups = groups_of(cfg, small(cfg))
    for group in groups.values():
        assert (group['weight_decay'], group['nesterov']) == (4e-5, False)
    schedule = cfg.param_scheduler
    assert not schedule.get('convert_to_iter_based') and not schedule.get('eta_min')


def test_dropout_of_odconv_4x_is_resnet18s_and_mobilenets():
    dropout = {
        name: read(name).model.head.get('dropout', 0)
        for name in (
            'odconv4x_r18_100e_in1k',
            'odconv4x_r50_100e_in1k',
            'odconv1x_r50_100e_in1k',
            'odconv4x_mbv2_150e_in1k',
        )
    }
    assert list(dropout.values()) == [0.2, 0, 0, 0.2]


@pytest.mark.parametrize('name', ['kw_convnext-t_300e_in1k', 'convnext-t_300e_in1k'])
def test_layer_scales_of_kw_convnext_decay_and_plain_ones_do_not(name):
    cfg = read(name)
    model = small(cfg)
    parameters = dict(model.named_parameters())
    groups = groups_of(cfg, model)
    scales = [key for key in parameters if LAYER_SCALE.search(key)]
    assert len(scales) == 4
    for key, group in groups.items():
        flat = is_flat(key, parameters[key])
        assert group['weight_decay'] == (0 if flat else 0.05), key
    decays = {groups[key]['weight_decay'] for key in scales}
    assert decays == ({0.05} if name.startswith('kw') else {0})


def test_layer_scales_of_kw_convnext_decay_in_detection():
    cfg = read_config('mask_rcnn_kw_convnext-t_1x_coco.py')
    init_default_scope(cfg.default_scope)
    arch = dict(depths=[3, 3, 9, 3], channels=[8, 16, 24, 32])
    options = dict(cfg.model.backbone, arch=arch, init_cfg=None, drop_path_rate=0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = MODELS.build(options)

    model = Model()
    groups = groups_of(cfg, model)
    scales = [key for key in groups if LAYER_SCALE.search(key)]
    assert len(scales) == 18 and {groups[key]['weight_decay'] for key in scales} == {0.05}
    assert {groups[key]['weight_decay'] for key in groups if key.endswith('.bias')} == {0}


@pytest.mark.parametrize('name', ['kw_convnext-t_300e_in1k', 'convnext-t_300e_in1k'])
def test_weights_are_averaged_once_an_optimizer_step(name):
    """As timm's ModelEma with decay 0.9999, which the authors call after every step."""
    cfg = read(name)
    (hook,) = [hook for hook in cfg.custom_hooks if hook.type == 'EMAHook']
    assert isinstance(HOOKS.build(hook), EMAHook)
    options = {key: hook[key] for key in ('momentum', 'interval')}
    steps = cfg.optim_wrapper.accumulative_counts
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    averaged = ExponentialMovingAverage(model, **options)
    expected, step = 0.0, 0
    for iteration in range(1, 401):
        if iteration % steps == 1 and iteration > 1:  # what the last step made, averaged after it
            expected = 0.9999 * expected + 1e-4 * float(model.weight.detach())
            step += 1
        if iteration % steps == 0:
            with torch.no_grad():
                model.weight += 1
        averaged.update_parameters(model)
    assert step == 99
    assert float(averaged.module.weight.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    'name, as_torch',
    [
        ('kw_r18_300e_in1k', True),
        ('kw4x_r50_300e_in1k', True),
        ('kw_r18_100e_in1k', True),
        ('r18_300e_in1k', False),
        ('kw_mbv2_150e_in1k', False),
    ],
)
def test_classifiers_start_as_published(name, as_torch):
    """KW ResNets': torch's default; plain ResNets' and MobileNetV2s': N(0, 0.01) without bias."""
    torch.manual_seed(0)
    cfg = read(name)
    head = MODELS.build(dict(cfg.model.head, num_classes=200))
    head.init_weights()
    weight, bias = head.fc.weight.detach(), head.fc.bias.detach()
    if as_torch:
        bound = 1 / math.sqrt(weight.shape[1])  # uniform
        assert 0.9 * bound < float(weight.abs().max()) <= bound
        assert 0.5 * bound < float(bias.abs().max()) <= bound
    else:
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05) and not bias.any()


def test_the_mixed_classifier_starts_without_bias():
    cfg = read('kw1d2x_mbv2_150e_in1k')
    head = MODELS.build(dict(cfg.model.head, num_classes=1000))
    head.init_weights()
    assert not head.fc.bias.detach().any()


def test_every_published_kw_resnet_has_the_default_start():
    for path in (ROOT / 'configs/imagenet').glob('kw*_r*_in1k.py'):
        if re.search(r'_r(18|50)_', path.name):
            assert read_only(f'imagenet/{path.name}').model.head.init_cfg is None, path.name


def test_a_run_of_before_is_resumed_with_layer_scales_of_another_shape():
    scale = nn.Parameter(torch.ones(1, 4, 1, 1))
    optimizer = torch.optim.AdamW([scale])
    scale.grad = torch.ones_like(scale)
    optimizer.step()
    for name in ('exp_avg', 'exp_avg_sq'):
        optimizer.state[scale][name] = optimizer.state[scale][name].flatten()
    wrapper = type('Wrapper', (), dict(optimizer=optimizer))()
    reorder_old_state(nn.Identity(), wrapper)
    assert optimizer.state[scale]['exp_avg'].shape == scale.shape
    optimizer.step()
