"""Whether a run repeats an experiment of the paper's tables, so that its scores can stand there."""

from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from mmengine.config import Config

from ..config_files import config
from ..errors import UserError
from ..run_config import load_config
from ..validation import few
from .training_runs import Run

# images of an epoch, and of an evaluation: of COCO's 118,287, those that have an instance
SIZES = {'coco': (117_266, 5_000), 'in1k': (1_281_167, 50_000)}
TOLERANCE = 0.01  # batches that are filled up
COMPARED = ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks')
PRECISION = ('type', 'loss_scale', 'dtype')  # of the optimizer's wrapper: --amp may change them
LENGTH = ('train_cfg.max_epochs', 'train_cfg.max_iters')
MOST_SHOWN_CHANGES = 4


def why_not_comparable(run: Run) -> list[str]:
    """Why a run's scores are not those of its config's row; empty if they are.

    They are if it has run to its end on all of COCO or ImageNet, with the settings of the config
    that comes with kw_mm and the learning rate of its batch. ``--amp``, the number of GPUs, the
    seed and the places of data and weights may differ.

    Args:
        run: The run, whose config has the name of one of ours.
    """
    if not run.finished:
        return [run.state]
    return [*_other_data(run), *changed_settings(run)]


def changed_settings(run: Run) -> list[str]:
    """What differs between the config that ran and the one of its name."""
    if run.cfg is None:
        return ['its config cannot be read']
    return [*_other_settings(run.cfg, reference(run.name)), *_other_rate(run)]


@cache
def reference(name: str) -> Config:
    """The config of a name, as it comes with kw_mm.

    Raises:
        UserError: There is none.
    """
    return load_config(config(name))


def is_ours(name: str) -> bool:
    """Whether a config of this name comes with kw_mm."""
    try:
        return bool(config(name))
    except UserError:
        return False


def epoch_images(name: str) -> int:
    """How many images an epoch of a config has, by the data set in its name."""
    return SIZES[name.rpartition('_')[2]][0]


def batch_of(cfg: Config, loader: str) -> int:
    """Images of a batch on each GPU."""
    return cfg[loader].get('batch_size') or 1


def _other_data(run: Run) -> Iterator[str]:
    sizes = SIZES.get(run.name.rpartition('_')[2])
    if sizes is None or run.cfg is None:
        yield 'it is not trained on COCO or ImageNet'
        return
    for expected, batches, loader, what in (
        (sizes[0], run.batches, 'train_dataloader', 'an epoch'),
        (sizes[1], run.val_batches, 'val_dataloader', 'an evaluation'),
    ):
        found = batches * batch_of(run.cfg, loader) * run.processes
        filled = batch_of(run.cfg, loader) * run.processes
        if not expected * (1 - TOLERANCE) <= found <= expected * (1 + TOLERANCE) + filled:
            yield f'{what} has about {found:,} images, the whole data set {expected:,}'


def _other_settings(cfg: Config, meant: Config) -> Iterator[str]:
    changes = []
    for key in COMPARED:
        ours, theirs = _flat(meant.get(key), key), _flat(cfg.get(key), key)
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name) and not _may_differ(name, ours, theirs):
                changes.append(f'{name}={theirs.get(name)!r} instead of {ours.get(name)!r}')
    for split in ('train', 'val'):
        ours, theirs = (_pipeline(one, split) for one in (meant, cfg))
        if ours != theirs:
            changes.append(f'another pipeline for {split}')
    if changes:
        yield few(changes, MOST_SHOWN_CHANGES)


def _may_differ(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if name.startswith('optim_wrapper.') and name.split('.')[1] in PRECISION:
        return True
    if name.endswith('init_cfg.checkpoint'):
        return _weights(ours.get(name)) == _weights(theirs.get(name))
    return name.startswith('train_cfg.') and name not in LENGTH  # such as how often it evaluates


def _weights(checkpoint: Any) -> tuple[str, ...]:
    """What tells weights apart, wherever they are: kw://NAME, NAME.pth, run/epoch_100.pth."""
    parts = PurePosixPath(str(checkpoint).replace('://', '/')).with_suffix('').parts
    return parts[-2:] if parts and parts[-1].startswith('epoch_') else parts[-1:]


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Settings by dotted key."""
    if isinstance(value, dict):
        return {
            k: v for key, entry in value.items() for k, v in _flat(entry, f'{name}.{key}').items()
        }
    if isinstance(value, (list, tuple)):
        return {
            k: v for i, entry in enumerate(value) for k, v in _flat(entry, f'{name}.{i}').items()
        }
    return {name: value}


def _pipeline(cfg: Config, split: str) -> dict[str, Any]:
    """A split's pipeline, but for where files are read from."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
    flat = _flat(dataset.get('pipeline'), 'pipeline')
    return {key: value for key, value in flat.items() if '.backend_args' not in key}


def _other_rate(run: Run) -> Iterator[str]:
    """The learning rate is meant for a total batch, and scaled for another one on request."""
    scaling = run.cfg.get('auto_scale_lr') or {}
    total = batch_of(run.cfg, 'train_dataloader') * run.processes
    base = scaling.get('base_batch_size')
    if base and base != total and not scaling.get('enable'):
        yield f'{total} images in a step with the learning rate of {base}, without --auto-scale-lr'
