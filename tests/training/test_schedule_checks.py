"""Schedules that the run is too short for."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from kw_mm.compared import ODConv2d
from kw_mm.training.schedule_checks import best_checkpoint_faults, odd_temperatures, schedule_faults
from kw_mm.training.temperature_hook import AttentionTemperatureHook
from kw_mm.warehouse import apply_kernel_warehouse

LOOP = SimpleNamespace(max_epochs=5, max_iters=50)


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=50), None),
        (
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=51),
            'ends at 51: the warm-up',
        ),
        (dict(type='LinearLR', start_factor=0.1, end=6), 'longer than the run; set a smaller end'),
        (
            dict(
                type='LinearLR', end=6, by_epoch=True, convert_to_iter_based=True, epoch_length=10
            ),
            'ends at 60: the warm-up is longer than the run; set a smaller end (the run has 50 it',
        ),
        (dict(type='ConstantLR', factor=0.1, end=9), 'the warm-up is longer'),
        (dict(type='ConstantLR', factor=0.1), None),
        (dict(type='MultiStepLR', milestones=[3, 4], end=5), None),
        (
            dict(type='MultiStepLR', milestones=[3, 8, 11], end=12),
            'after the end of the run: 8, 11',
        ),
        (dict(type='CosineAnnealingLR', T_max=5, end=5), None),
        (dict(type='CosineAnnealingLR', T_max=9, end=9), 'ends at 9, after the end of the run'),
        (dict(type='CosineAnnealingLR', T_max=9, begin=7, end=9), 'begins at 7, after the end'),
    ],
)
def test_schedules_of_a_run_of_five_epochs(cfg, words):
    wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1))
    if cfg.pop('convert_to_iter_based', False):
        kind = PARAM_SCHEDULERS.get(cfg.pop('type'))
        built = kind.build_iter_from_epoch(wrapper, **cfg)
    else:
        built = PARAM_SCHEDULERS.build(dict(cfg, optimizer=wrapper))
    for schedulers in ([built], dict(generator=[built])):
        faults = list(schedule_faults(schedulers, LOOP))
        assert len(faults) == (words is not None)
        assert all(words in fault and type(built).__name__ in fault for fault in faults)


@pytest.mark.parametrize(
    'number, by_epoch, found',
    [(1, True, 0.75), (3, True, 0.25), (4, True, None), (11, True, None), (30, False, 0.25)],
)
def test_a_best_checkpoint_from_the_annealing_is_named(number, by_epoch, found):
    saver = CheckpointHook(save_best='ap', rule='greater', by_epoch=by_epoch)
    saver.filename_tmpl = 'epoch_{}.pth' if by_epoch else 'iter_{}.pth'
    saver.best_ckpt_path = '/run/best_ap_' + saver.filename_tmpl.format(number)
    hook = AttentionTemperatureHook(duration=4)
    runner = SimpleNamespace(hooks=[hook, saver], train_dataloader=[0] * 10)
    faults = list(best_checkpoint_faults(runner))
    assert len(faults) == (found is not None)
    for fault in faults:
        assert saver.best_ckpt_path in fault and f'at temperature {found} ' in fault


def test_temperatures_between():
    net = nn.Sequential(nn.Conv2d(8, 8, 1))
    apply_kernel_warehouse(net, {'all': ['0']})
    for value, odd in ((0, []), (1, []), (0.25, [0.25])):
        net.warehouses.set_temperature(value)
        assert odd_temperatures(nn.Sequential(net, nn.ReLU())) == odd
    conv = ODConv2d(8, 8, 1)
    conv.set_temperature(30)
    assert odd_temperatures(nn.Sequential(conv, conv)) == [30]
