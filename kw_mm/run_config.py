"""Reading a config and what the command line changes in it, and walking over its datasets."""

import inspect
import os
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import ConfigParsingError
from mmengine.registry import Registry
from mmengine.runner import Runner

from .config_files import config
from .errors import UserError, one_line
from .validation import closest

UNREADABLE = (
    SyntaxError,
    FileNotFoundError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    NameError,
    AttributeError,
    AssertionError,
    ConfigParsingError,
)


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config, a file or the name of one that comes with kw_mm, and apply ``--cfg-options``.

    ``data_root=...`` reaches every path that begins with the config's own ``data_root``; options
    that name such a path themselves win.

    Args:
        path: File or name.
        options: Values by dotted key.

    Raises:
        UserError: No such file, one that mmengine cannot read, or an option that does not fit it.

    Example:
        >>> cfg = load_config('mask_rcnn_kw_r50_1x_coco', {'data_root': '/datasets/coco/'})
    """
    if not os.path.isfile(path):
        try:
            path = config(path)
        except UserError as error:
            raise UserError(f'config {path!r} does not exist, and {error}') from error
    try:
        cfg = Config.fromfile(path)
    except UNREADABLE as error:
        raise UserError(f'config {path!r} cannot be read: {one_line(error)}') from error
    options = dict(options or {})
    _warn_of_misspelt(options, cfg)
    if 'data_root' in options:
        redirect_data_root(cfg, options['data_root'])
    try:
        cfg.merge_from_dict(options)
    except (LookupError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f'--cfg-options {", ".join(options)} do not fit {path!r}: {one_line(error)}'
        ) from error
    return cfg


def _warn_of_misspelt(options: dict[str, Any], cfg: Config) -> None:
    """mmengine accepts any new setting, and uses only those that it knows."""
    for name in {option.partition('.')[0] for option in options}:
        close = [] if name in cfg else closest(name, cfg, most=1, cutoff=0.85)
        if close and name not in inspect.signature(Runner).parameters:
            warnings.warn(
                f'--cfg-options {name}=...: the config has no {name!r}, which changes nothing; '
                f'was {close[0]!r} meant?',
                stacklevel=2,
            )


def redirect_data_root(cfg: Config, data_root: str) -> None:
    """Rewrite, in place, every path of a config that begins with its ``data_root``.

    Raises:
        UserError: The config has no ``data_root``.
    """
    old = cfg.get('data_root')
    if not old:
        raise UserError(
            f'data_root={data_root} was given, but {cfg.filename} defines no data_root; set the '
            "datasets' own, e.g. train_dataloader.dataset.data_root"
        )
    new = data_root if data_root.endswith('/') or not old.endswith('/') else data_root + '/'
    for key in list(cfg):
        cfg[key] = _rewrite(cfg[key], old, new)


def _rewrite(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return ConfigDict({key: _rewrite(entry, old, new) for key, entry in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(_rewrite(entry, old, new) for entry in value)
    if isinstance(value, str) and value.startswith(old):
        return new + value[len(old) :]
    return value


def walk_datasets(dataset: Any, where: str = 'dataset') -> Iterator[tuple[str, ConfigDict]]:
    """A dataset's config, and those inside wrappers such as RepeatDataset and ConcatDataset.

    Args:
        dataset: The config; there is nothing to walk over in anything but a dict.
        where: Its key.

    Yields:
        tuple: Key and config of each dataset, wrappers before what they wrap.

    Example:
        >>> [where for where, _ in walk_datasets(cfg.train_dataloader.dataset)]
        ['dataset', 'dataset.datasets[0]', 'dataset.datasets[1]']
    """
    if not isinstance(dataset, dict):
        return
    yield where, dataset
    yield from walk_datasets(dataset.get('dataset'), f'{where}.dataset')
    for i, part in enumerate(dataset.get('datasets') or ()):
        yield from walk_datasets(part, f'{where}.datasets[{i}]')


def datasets_of(cfg: Config, split: str) -> Iterator[tuple[str, ConfigDict]]:
    """:func:`walk_datasets` over the dataset of 'train', 'val' or 'test'; nothing without one."""
    loader = cfg.get(f'{split}_dataloader') or {}
    return walk_datasets(loader.get('dataset'), f'{split}_dataloader.dataset')


def walk_transforms(pipeline: Any) -> Iterator[ConfigDict]:
    """The transforms of a pipeline's config, and those inside wrappers such as RandomChoice."""
    if isinstance(pipeline, dict):
        if 'type' in pipeline:
            yield pipeline
        pipeline = list(pipeline.values())
    for step in pipeline if isinstance(pipeline, (list, tuple)) else ():
        yield from walk_transforms(step)


def tested_dataset(cfg: Config) -> ConfigDict:
    """The config of the (first) tested dataset, out of its wrappers; empty without one."""
    unwrapped = (
        dataset
        for _, dataset in datasets_of(cfg, 'test')
        if not dataset.keys() & {'dataset', 'datasets'}
    )
    return next(unwrapped, ConfigDict())


def annotation_path(dataset: dict[str, Any]) -> str:
    """Where a dataset's config has its annotation file."""
    return os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')


def coco_annotations(cfg: Config) -> str | None:
    """The annotation file that is tested on, where it is in COCO's form and exists."""
    path = annotation_path(tested_dataset(cfg))
    return path if path.endswith('.json') and os.path.isfile(path) else None


def is_kind(part: dict[str, Any], registry: Registry, kind: type, scope: str | None = None) -> bool:
    """Whether a part of a config builds an object of a class, or of a subclass.

    Args:
        part: It has a ``type``: a name, or a class as in mmengine's pure Python configs.
        registry: One of mmengine's root registries.
        kind: The class.
        scope: The config's ``default_scope``, in which names are looked up; by default the
            current one.

    Example:
        >>> is_kind(dict(type='mmdet.LoadAnnotations'), TRANSFORMS, mmcv.transforms.LoadAnnotations)
        True
    """
    name = part.get('type')
    if not isinstance(name, str):
        return isinstance(name, type) and issubclass(name, kind)
    with registry.switch_scope_and_registry(scope) as scoped:
        found = scoped.get(name)
        if found is not None and not isinstance(found, type):  # a name whose class is imported late
            import_module(found.__module__)
            found = scoped.get(name)
    return isinstance(found, type) and issubclass(found, kind)
