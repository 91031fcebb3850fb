import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from kw_mm.hooks import AttentionTemperatureHook
from kw_mm.warehouse import apply_kernel_warehouse


class Net(BaseModel):
    """A KW layer that keeps the temperature of every training step."""

    def __init__(self, kw=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3))
        if kw:
            apply_kernel_warehouse(self.body, {'all': ['0']}, attention_norm='LN')
        self.seen = []

    def forward(self, *inputs, mode='tensor'):
        self.seen.append(float(self.body.warehouses.temperature))
        return dict(loss=self.body(torch.stack(inputs)).square().mean())


def run(tmp_path, hook, epochs=3, resume=False, model=None, accumulate=1):
    model = model or Net()
    runner = Runner(
        model, str(tmp_path), train_dataloader=dict(
            dataset=[torch.randn(3, 8, 8) for _ in range(8)], batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), custom_hooks=[hook],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=accumulate),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)), resume=resume,
        experiment_name=f'{tmp_path.name}{epochs}',
        default_scope='mmengine')
    runner.train()
    return runner, model.seen


def test_the_published_schedule(tmp_path):
    runner, seen = run(tmp_path, dict(type='AttentionTemperatureHook', duration=2))
    assert seen == pytest.approx([max(0, (8 - t) / 8) for t in range(1, 13)])
    assert float(runner.model.body.warehouses.temperature) == 0
    assert runner.message_hub.get_scalar('train/temperature').current() == 0
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'temperature: 0.8750' in log and 'loss: ' in log


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
    runner = SimpleNamespace(model=wrapped, logger=logging.getLogger(), train_dataloader=[0] * 4, iter=3,
                             message_hub=SimpleNamespace(update_scalar=lambda *args: None))
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert float(inner.body.warehouses.temperature) == 0.5


def test_a_model_without_kw_layers_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no layer with an attention temperature.*KWResNet"):
        run(tmp_path, dict(type='AttentionTemperatureHook', duration=2), model=Net(kw=False))


@pytest.mark.parametrize('duration', [0, -1])
def test_a_duration_that_is_not_positive_is_an_error(duration):
    with pytest.raises(ValueError, match=f'duration={duration}'):
        AttentionTemperatureHook(duration=duration)
