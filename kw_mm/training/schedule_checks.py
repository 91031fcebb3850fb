"""Schedules that the run is too short for, and what that leaves: a line each."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.optim import ConstantParamScheduler, LinearParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from ..validation import few
from .temperature_hook import AttentionTemperatureHook, temperatures


def schedule_faults(schedulers: Any, loop: Any) -> Iterator[str]:
    """Of each built scheduler that goes on after the run's last step, a line that says so.

    Args:
        schedulers: mmengine's parameter schedulers, a list or a dict of lists of them.
        loop: The training loop.
    """
    if isinstance(schedulers, dict):
        for part in schedulers.values():
            yield from schedule_faults(part, loop)
        return
    for scheduler in schedulers:
        if scheduler.by_epoch and isinstance(loop, IterBasedTrainLoop):
            continue
        total = loop.max_epochs if scheduler.by_epoch else loop.max_iters
        fault = _fault(scheduler, total)
        if fault:
            unit = 'epochs' if scheduler.by_epoch else 'iterations'
            yield f'param_scheduler {type(scheduler).__name__} {fault} (the run has {total} {unit})'


def _fault(scheduler: Any, total: int) -> str:
    if scheduler.begin >= total:
        return f'begins at {scheduler.begin}, after the end of the run: it changes nothing'
    milestones = [scheduler.begin + one for one in sorted(getattr(scheduler, 'milestones', ()))]
    late = [one for one in milestones if one >= total]
    if late:
        return f'has milestones after the end of the run: {few(late)}'
    if total < scheduler.end < INF:
        if isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler)):
            return f'ends at {scheduler.end}: the warm-up is longer than the run; set a smaller end'
        return f'ends at {scheduler.end}, after the end of the run'
    return ''


def best_checkpoint_faults(runner: Runner) -> Iterator[str]:
    """Of each best checkpoint that was picked while the temperature still moved, a line.

    Kernels change with the temperature, so that its scores are not those of the later network.
    """
    for hook in runner.hooks:
        if isinstance(hook, AttentionTemperatureHook):
            for path, when, value in _picked_early(runner, hook):
                yield (
                    f'the best checkpoint {path!r} was picked at temperature {value:.3g} '
                    f'({when}), before the temperature reached {hook.end:g}; with '
                    'default_hooks.checkpoint.save_begin the best is sought after the annealing'
                )


def _picked_early(
    runner: Runner, hook: AttentionTemperatureHook
) -> Iterator[tuple[str, str, float]]:
    """(path, moment, temperature) of best checkpoints saved before the annealing ended."""
    length, steps = len(runner.train_dataloader), hook.steps(runner)
    for saver in runner.hooks:
        if not isinstance(saver, CheckpointHook) or not getattr(saver, 'save_best', None):
            continue
        unit, per_unit = ('epoch', length) if saver.by_epoch else ('iteration', 1)
        several = getattr(saver, 'best_ckpt_path_dict', {}).values()
        for path in filter(None, {getattr(saver, 'best_ckpt_path', None), *several}):
            for number in range(1, int(-(-steps // per_unit))):
                if path.endswith(f'_{saver.filename_tmpl.format(number)}'):
                    yield path, f'{unit} {number}', hook.value(number * per_unit, steps)


def odd_temperatures(model: nn.Module) -> list[float]:
    """Attention temperatures of a model that are neither 0 nor 1, without repetitions."""
    return [value for value in temperatures(model) if value not in (0, 1)]
