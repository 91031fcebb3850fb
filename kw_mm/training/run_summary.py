"""The first lines of a run that its user can act on: what trains, on what, and where it is kept."""

from typing import Any

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from ..checkpoints.adapting import LoadsAnyLayout
from ..run_config import annotation_path, walk_datasets
from .screen import quiet_screen
from .temperature_hook import AttentionTemperatureHook, temperatures


class RunSummaryHook(Hook):
    """Logs :func:`summary` as the last thing before the first iteration.

    The runner adds it by itself, after all other hooks.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        pairs = summary(runner)
        width = max(len(name) for name, _ in pairs)
        lines = [f'  {name:<{width}}  {text}' for name, text in pairs]
        runner.logger.info('\n'.join(['Training begins:', *lines]))


def summary(runner: Runner) -> list[tuple[str, str]]:
    """What a run is, as (name, text) pairs, in the order in which they are read.

    Args:
        runner: With everything built and all weights loaded.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    hidden = sum(quiet_screen(runner.logger).hidden.values())
    pairs = [
        ('config', runner.cfg.filename or 'given in Python'),
        ('model', _model(model)),
        *(('weights', line) for line in _weights(runner, model)),
        ('temperature', _temperature(runner, model)),
        ('training data', _data(runner.train_dataloader, runner.cfg.get('train_dataloader'))),
        ('validation data', _validation(runner)),
        ('schedule', _schedule(runner)),
        ('device', _device(runner)),
        ('kept in', f'{runner.work_dir} ({_checkpoints(runner)})'),
        ('log file', f'{runner.log_dir}/{runner.timestamp}.log, with config and environment'),
        ('not shown', f'{hidden} warnings of libraries that need no action' if hidden else ''),
    ]
    return [(name, text) for name, text in pairs if text]


def _model(model: nn.Module) -> str:
    backbone = getattr(model, 'backbone', None)
    parts = [type(model).__name__, *([type(backbone).__name__] if backbone is not None else [])]
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, on in sizes if on)
    return f'{" with ".join(parts)}, {total / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained'


def _weights(runner: Runner, model: nn.Module) -> list[str]:
    """A line for each part with weights of its own: where from, and what was made of them."""
    if runner._has_loaded:
        return [f'{runner._load_from}, for the whole model']
    lines = []
    for name, module in model.named_modules():
        cfg = getattr(module, 'init_cfg', None)
        source = cfg.get('checkpoint') if isinstance(cfg, dict) else None
        if source:
            adapted = module.adapted if isinstance(module, LoadsAnyLayout) else ''
            lines.append(f'{adapted or name or type(module).__name__} ({source})')
    return lines or ['none: everything is random']


def _temperature(runner: Runner, model: nn.Module) -> str:
    for hook in runner.hooks:
        if isinstance(hook, AttentionTemperatureHook):
            unit = 'epochs' if hook.by_epoch else 'iterations'
            return f'{hook.begin:g} to {hook.end:g} over the first {hook.duration:g} {unit}'
    values = [f'{value:g}' for value in temperatures(model)]
    return f'{" and ".join(values)} throughout (no AttentionTemperatureHook)' if values else ''


def _data(dataloader: Any, cfg: Any) -> str:
    dataset = cfg.get('dataset') if isinstance(cfg, dict) else None
    files = [
        annotation_path(part)
        for _, part in walk_datasets(dataset if isinstance(dataset, dict) else {})
        if part.get('ann_file')
    ]
    where = f' of {", ".join(files)}' if files else ''
    batch = getattr(dataloader, 'batch_size', None) or dataloader.batch_sampler.batch_size
    steps = f'{len(dataloader)} iterations of {batch} images'
    return f'{len(dataloader.dataset)} images{where}; an epoch has {steps}'


def _validation(runner: Runner) -> str:
    if runner.val_loop is None:
        return 'none'
    loop = runner.val_loop
    return _data(loop.dataloader, runner.cfg.get('val_dataloader')).partition(';')[0]


def _schedule(runner: Runner) -> str:
    rates = next(iter(runner.optim_wrapper.get_lr().values()))
    optimizer = type(getattr(runner.optim_wrapper, 'optimizer', runner.optim_wrapper)).__name__
    begun = f', resumed after iteration {runner.iter}' if runner.iter else ''
    by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
    several = 's' if runner.max_epochs > 1 else ''
    epochs = f'{runner.max_epochs} epoch{several}, ' if by_epoch else ''
    return (
        f'{epochs}{runner.max_iters} iterations{begun}; {optimizer}, learning rate '
        f'{max(rates):.3g} at the start; seed {runner.seed}'
    )


def _device(runner: Runner) -> str:
    device = next(runner.model.parameters()).device
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        name = f'{device.type.upper()}, {torch.get_num_threads()} threads'
    return f'{runner.world_size} x {name}' if runner.world_size > 1 else name


def _checkpoints(runner: Runner) -> str:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            unit = 'epoch' if hook.by_epoch else 'iteration'
            every = f'every {hook.interval} {unit}s' if hook.interval != 1 else f'every {unit}'
            kept = f', the last {hook.max_keep_ckpts} stay' if hook.max_keep_ckpts > 0 else ''
            return f'a checkpoint {every}{kept}'
    return 'no checkpoints: there is no CheckpointHook'
