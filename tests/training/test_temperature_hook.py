import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from kw_mm.compared import DYConv2d, ODConv2d, SoftmaxTemperature
from kw_mm.models import DynamicResNet
from kw_mm.training.temperature_hook import AttentionTemperatureHook
from kw_mm.warehouse import apply_kernel_warehouse


class Net(BaseModel):
    """A KW layer that keeps the temperature of every training step."""

    def __init__(self, kw=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3))
        if kw:
            apply_kernel_warehouse(self.body, {'all': ['0']}, attention_norm='LN', init='published')
        self.seen = []

    def forward(self, *inputs, mode='tensor'):
        self.seen.append(float(self.body.warehouses.temperature))
        return dict(loss=self.body(torch.stack(inputs)).square().mean())


def run(tmp_path, hook, epochs=3, resume=False, model=None, accumulate=1):
    model = model or Net()
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=dict(
            dataset=[torch.randn(3, 8, 8) for _ in range(8)],
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[hook],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=accumulate),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        resume=resume,
        experiment_name=f'{tmp_path.name}{epochs}',
        default_scope='mmengine',
    )
    runner.train()
    return runner, model.seen


def test_the_published_schedule(tmp_path):
    runner, seen = run(tmp_path, dict(type='AttentionTemperatureHook', duration=2))
    assert seen == pytest.approx([max(0, (8 - t) / 8) for t in range(1, 13)])
    assert float(runner.model.body.warehouses.temperature) == 0
    assert runner.message_hub.get_scalar('train/temperature').current() == 0
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'temperature: 0.8750' in log and 'loss: ' in log


def test_an_annealing_that_the_run_is_too_short_for_is_said(tmp_path):
    run(tmp_path / 'short', dict(type='AttentionTemperatureHook', duration=6))
    run(tmp_path / 'long', dict(type='AttentionTemperatureHook', duration=3))
    logs = [next((tmp_path / name).glob('*/*.log')).read_text() for name in ('short', 'long')]
    words = (
        'the run ends at temperature 0.5, not 0: annealing takes 24 iterations, and the run has 12'
    )
    assert words in logs[0] and 'the run ends at' not in logs[1]


def test_iterations_begin_and_end(tmp_path):
    hook = dict(type='AttentionTemperatureHook', duration=5, begin=0.8, end=0.3, by_epoch=False)
    _, seen = run(tmp_path, hook)
    assert seen == pytest.approx([0.8 - 0.1 * t for t in range(1, 6)] + [0.3] * 7)


def test_gradient_accumulation_counts_micro_batches(tmp_path):
    _, seen = run(tmp_path, dict(type='AttentionTemperatureHook', duration=2), accumulate=2)
    assert seen == pytest.approx([max(0, (8 - t) / 8) for t in range(1, 13)])


def test_resume_continues_the_schedule(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    hook = dict(type='AttentionTemperatureHook', duration=3)
    runner, first = run(tmp_path, copy.deepcopy(hook), epochs=1)
    assert 'body.warehouses.temperature' in torch.load(tmp_path / 'epoch_1.pth')['state_dict']
    _, rest = run(tmp_path, copy.deepcopy(hook), epochs=3, resume=True)
    assert first + rest == pytest.approx([(12 - t) / 12 for t in range(1, 13)])


def test_it_finds_layers_inside_a_model_wrapper():
    inner = Net()
    wrapped = nn.Sequential()
    wrapped.module = inner
    hook = AttentionTemperatureHook(duration=2)
    runner = SimpleNamespace(
        model=wrapped,
        logger=logging.getLogger(),
        train_dataloader=[0] * 4,
        iter=3,
        max_iters=8,
        hooks=[],
        message_hub=SimpleNamespace(update_scalar=lambda *args: None),
    )
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert float(inner.body.warehouses.temperature) == 0.5


def test_a_model_without_kw_layers_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no layer with an attention temperature.*KWResNet'):
        run(tmp_path, dict(type='AttentionTemperatureHook', duration=2), model=Net(kw=False))


@pytest.mark.parametrize('duration', [0, -1])
def test_a_duration_that_is_not_positive_is_an_error(duration):
    with pytest.raises(ValueError, match=f'duration={duration}'):
        AttentionTemperatureHook(duration=duration)


def softmax_net():
    """A plain layer and two with a softmax temperature, one of them in a backbone that sets it."""
    return nn.ModuleDict(
        dict(
            backbone=DynamicResNet(
                18, dict(type='ODConv2d', num_kernels=2), base_channels=8, stem_channels=8
            ),
            neck=nn.Sequential(nn.Conv2d(8, 8, 1), DYConv2d(8, 8, 1)),
        )
    )


def hook_on(model, iteration, **options):
    hook = AttentionTemperatureHook(**options)
    runner = SimpleNamespace(
        model=model,
        logger=logging.getLogger(),
        train_dataloader=[0] * 5,
        iter=iteration,
        max_iters=100,
        hooks=[],
        message_hub=SimpleNamespace(update_scalar=lambda *args: None),
    )
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    return hook


@pytest.mark.parametrize('iteration, expected', [(0, 30 - 29 / 50), (24, 15.5), (49, 1), (70, 1)])
def test_it_drives_softmax_temperatures(iteration, expected):
    model = softmax_net()
    hook_on(model, iteration, duration=10, begin=30, end=1)
    found = [
        float(module.temperature)
        for module in model.modules()
        if isinstance(module, (ODConv2d, DYConv2d))
    ]
    assert len(found) == 17 and found == pytest.approx([expected] * 17)


def test_no_module_is_set_twice(monkeypatch):
    model, calls = softmax_net(), []
    original = SoftmaxTemperature.set_temperature
    monkeypatch.setattr(
        SoftmaxTemperature,
        'set_temperature',
        lambda self, value: (calls.append((id(self), value)), original(self, value)),
    )
    hook = hook_on(model, 10, duration=10, begin=30, end=1)
    last = [key for key, value in calls if value not in (1, 30)]
    assert len(last) == len(set(last)) == 17
    assert hook._modules == [model['backbone'], model['neck'][1]]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(), 'temperature=0.0 of ODConv2d is not positive.*begin=30, end=1'),
        (dict(begin=-1, end=1), 'temperature=-1'),
    ],
)
def test_values_that_a_layer_cannot_have_fail_when_training_starts(options, message):
    with pytest.raises(ValueError, match=message):
        hook_on(softmax_net(), 0, duration=10, **options)


def test_a_network_whose_layers_have_no_temperature_is_an_error():
    with pytest.raises(
        ValueError, match='DynamicResNet have no temperature; leave AttentionTemperatureHook'
    ):
        hook_on(
            DynamicResNet(18, dict(type='CondConv2d'), base_channels=8, stem_channels=8),
            0,
            duration=10,
        )
