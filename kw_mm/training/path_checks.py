"""Looking at paths before a run starts, so that a missing one is named at once."""

import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from torch import nn

from ..errors import ConfigError, UserError


def check_datasets(cfg: Config, *splits: str) -> None:
    """Check that annotation files and image folders of a config's datasets exist.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test', what the run will use.

    Raises:
        UserError: Names the missing path and the setting it comes from.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for where, path in _paths((loader or {}).get('dataset'), f'{split}_dataloader.dataset'):
            if '://' not in path and not os.path.exists(path):
                raise UserError(
                    f'{path!r} ({where}) does not exist; point data_root at your dataset: '
                    '--cfg-options data_root=PATH/'
                )


def check_stages(model: nn.Module) -> None:
    """Check that a backbone returns as many feature maps as the neck takes.

    Raises:
        ConfigError: It does not; names both settings.
    """
    returned, taken = (
        getattr(getattr(model, part, None), setting, None)
        for part, setting in (('backbone', 'out_indices'), ('neck', 'in_channels'))
    )
    if (
        isinstance(returned, (list, tuple))
        and isinstance(taken, (list, tuple))
        and len(returned) != len(taken)
    ):
        raise ConfigError(
            f'model.backbone.out_indices={tuple(returned)} gives {len(returned)} feature maps, and '
            f'model.neck.in_channels={list(taken)} takes {len(taken)}; a ResNet gives four with (0, 1, 2, 3)'
        )


def _paths(dataset: Any, where: str) -> Iterator[tuple[str, str]]:
    if not isinstance(dataset, dict):
        return
    root = dataset.get('data_root') or ''
    if root:
        yield f'{where}.data_root', root
    if dataset.get('ann_file'):
        yield f'{where}.ann_file', os.path.join(root, dataset['ann_file'])
    prefix = dataset.get('data_prefix') or {}
    for name, folder in ({'': prefix} if isinstance(prefix, str) else prefix).items():
        if folder is not None and (root or folder):
            yield f'{where}.data_prefix {name}'.rstrip(), os.path.join(root, folder)
    yield from _paths(dataset.get('dataset'), f'{where}.dataset')
    for i, inner in enumerate(dataset.get('datasets') or []):
        yield from _paths(inner, f'{where}.datasets[{i}]')


def check_checkpoint(path: str) -> None:
    """Check that a checkpoint given on the command line is there.

    Raises:
        UserError: A local path without a file.
    """
    if '://' not in path and not os.path.isfile(path):
        raise UserError(f'checkpoint {path!r} does not exist')
