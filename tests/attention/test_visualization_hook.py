import json
import subprocess
import sys

import cv2
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from kw_mm.attention import visualization_hook
from kw_mm.attention.visualization_hook import AttentionVisualizationHook
from kw_mm.warehouse import apply_kernel_warehouse

NAMES = ('first', 'second')


class Net(BaseModel):
    """Two KW layers; counts, in every training step, the hooks that are attached to the model."""

    def __init__(self, kw=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))
        if kw:
            apply_kernel_warehouse(
                self.body, {'first': ['0'], 'second': ['2']}, attention_norm='LN', init='published'
            )
        self.attached = []

    def forward(self, *inputs, mode='tensor'):
        self.attached.append(sum(len(module._forward_hooks) for module in self.modules()))
        return dict(loss=self.body(torch.stack(inputs)).square().mean())


def run(tmp_path, *hooks, model=None, backends=('LocalVisBackend',)):
    torch.manual_seed(0)
    runner = Runner(
        model or Net(),
        str(tmp_path),
        train_dataloader=dict(
            dataset=[torch.randn(3, 8, 8) for _ in range(8)],
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        custom_hooks=list(hooks),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type=backend) for backend in backends]
        ),
        experiment_name=tmp_path.name,
        default_scope='mmengine',
    )
    runner.train()
    return runner


def logged(tmp_path):
    lines = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [record for record in map(json.loads, lines) if 'attention_entropy/first' in record]


@pytest.mark.parametrize(
    'options, steps',
    [(dict(), [4, 8, 12]), (dict(interval=2), [8]), (dict(interval=5, by_epoch=False), [5, 10])],
)
def test_it_logs_when_due_and_else_leaves_the_model_alone(tmp_path, options, steps):
    runner = run(tmp_path, dict(type='AttentionVisualizationHook', **options))
    records = logged(tmp_path)
    assert [record['step'] for record in records] == steps
    for record in records:
        assert {
            f'attention_{kind}/{name}' for kind in ('entropy', 'zero_cell') for name in NAMES
        } < set(record)
        assert all(0 < value <= 1 for name, value in record.items() if name.startswith('attention'))
    assert runner.model.attached == [4 if step in steps else 0 for step in range(1, 13)]
    assert not any(module._forward_hooks for module in runner.model.modules())
    images = {
        file.name: cv2.imread(str(file)) for file in tmp_path.glob('*/vis_data/vis_image/*.png')
    }
    assert set(images) == {f'attention_{name}_{step}.png' for name in NAMES for step in steps}
    assert all(
        len({tuple(pixel) for pixel in image.reshape(-1, 3)}) > 50 for image in images.values()
    )
    assert 'mean entropy' in next(tmp_path.glob('*/*.log')).read_text()


def test_the_entropy_rises_as_the_temperature_falls(tmp_path):
    run(
        tmp_path,
        dict(type='AttentionVisualizationHook', interval=3, by_epoch=False, draw=False),
        dict(type='AttentionTemperatureHook', duration=3),
    )
    entropies = [record['attention_entropy/first'] for record in logged(tmp_path)]
    assert entropies == sorted(entropies) and entropies[0] < 0.7 < entropies[-1]
    assert not list(tmp_path.glob('*/vis_data/vis_image/*'))


def test_training_does_not_depend_on_it(tmp_path):
    looked = run(
        tmp_path / 'a', dict(type='AttentionVisualizationHook', interval=1, by_epoch=False)
    ).model.state_dict()
    plain = run(tmp_path / 'b').model.state_dict()
    assert all(torch.equal(value, looked[name]) for name, value in plain.items())


def test_only_the_main_process_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(visualization_hook, 'is_main_process', lambda: False)
    runner = run(tmp_path, dict(type='AttentionVisualizationHook', interval=1, by_epoch=False))
    assert runner.model.attached == [0] * 12 and not logged(tmp_path)


def test_tensorboard_shows_scalars_and_images(tmp_path):
    run(
        tmp_path,
        dict(type='AttentionVisualizationHook'),
        dict(type='AttentionTemperatureHook', duration=3),
        backends=('LocalVisBackend', 'TensorboardVisBackend'),
    )
    events = EventAccumulator(
        str(next(tmp_path.glob('*/vis_data'))), size_guidance=dict(images=0)
    ).Reload()
    assert [event.step for event in events.Scalars('attention_entropy/second')] == [4, 8, 12]
    assert [event.step for event in events.Scalars('loss')] == list(range(1, 13))
    assert [event.value for event in events.Scalars('temperature')] == pytest.approx(
        [1 - t / 12 for t in range(1, 13)]
    )
    assert [event.step for event in events.Images('attention_first')] == [4, 8, 12]


def test_a_model_without_kw_layers_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no KW layer.*KWResNet'):
        run(tmp_path, dict(type='AttentionVisualizationHook'), model=Net(kw=False))


@pytest.mark.parametrize('interval', [0, -1, 0.5])
def test_an_interval_that_is_none_is_an_error(interval):
    with pytest.raises(ValueError, match=f'interval={interval}'):
        AttentionVisualizationHook(interval=interval)


def test_importing_kw_mm_imports_nothing_that_draws():
    """The hook is registered without matplotlib, which it needs for the first heat map only."""
    code = """
import sys, kw_mm
from mmengine.registry import HOOKS
print(HOOKS.get('AttentionVisualizationHook').__module__)
print([name for name in sys.modules if name in (
    'kw_mm.analysis.figures', 'kw_mm.attention.maps', 'kw_mm.attention.plots')])
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ['kw_mm.attention.visualization_hook', '[]']
