"""Reading a config and what the command line changes in it, and walking over its datasets."""

import ast
import inspect
import os
import warnings
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import ConfigParsingError
from mmengine.registry import Registry
from mmengine.runner import Runner

from .config_files import config
from .errors import UserError, one_line
from .validation import closest

SPLIT_TITLES = dict(train='training', val='validation', test='test')
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
    that name such a path themselves win. So does a ``data_root`` that a config sets over the one it
    inherits.

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
    if cfg.get('data_root'):
        _move_inherited_paths(cfg, path)
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
        UserError: The config has no ``data_root``, or its datasets have others.
    """
    old = cfg.get('data_root')
    advice = "set the datasets' own, e.g. train_dataloader.dataset.data_root"
    if not old:
        raise UserError(
            f'data_root={data_root} was given, but {cfg.filename} defines no data_root; {advice}'
        )
    splits = ('train', 'val', 'test')
    roots = [part['data_root'] for split in splits for _, part in datasets_of(cfg, split)
             if part.get('data_root')]  # fmt: skip
    if roots and not any(_is_below(root, old) for root in roots):
        raise UserError(
            f'data_root={data_root} was given, but no dataset of {cfg.filename} is below its '
            f'data_root {old!r}; {advice}'
        )
    _move_paths(cfg, old, data_root)


def _move_paths(cfg: Config, old: str, new: str, kept: Collection[str] = ()) -> None:
    """Rewrite paths below a folder, except those that are kept; types stay as they are written."""
    new = new if new.endswith('/') or not old.endswith('/') else new + '/'
    for key, value in cfg._to_lazy_dict(keep_imported=True).items():
        cfg[key] = _rewrite(value, old, new, kept)


def _rewrite(value: Any, old: str, new: str, kept: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _rewrite(entry, old, new, kept) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rewrite(entry, old, new, kept) for entry in value)
    if isinstance(value, str) and _is_below(value, old) and value not in kept:
        return new + value[len(old) :]
    return value


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder if folder.endswith('/') else folder + '/')


def _move_inherited_paths(cfg: Config, path: str) -> None:
    """Let a ``data_root`` that a config sets reach the paths that it inherits.

    mmengine makes paths of the inherited config's own. Paths that are written out in the config
    that sets ``data_root``, or in one that inherits it, stay.
    """
    kept: set[str] = set()
    own = False
    bases = [(path, path)]  # and the files that name them, nearest first
    while bases:
        base, child = bases.pop(0)
        if '::' in base and not own:  # looked up slowly, and nothing is set over what it sets
            continue
        found = base if base is child else Config._get_cfg_path(base, child)[0]
        if not found.endswith('.py') or Config._is_lazy_import(found):
            continue
        tree = ast.parse(Path(found).read_text(encoding='utf-8'))
        bases += [(one, found) for one in Config._get_base_files(found)]
        if own:
            for old in _roots_in(tree):
                if old and cfg.data_root != old:
                    _move_paths(cfg, old, cfg.data_root, kept)
        else:
            kept |= {node.value for node in ast.walk(tree)
                     if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
            own = bool(_roots_in(tree))


def _roots_in(tree: ast.Module) -> list[Any]:
    """What a config sets ``data_root`` to, None for what is not written out."""
    return [
        getattr(node.value, 'value', None)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'data_root'
    ]


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
    found = kind_of(part, registry, scope)
    return found is not None and issubclass(found, kind)


def kind_of(part: dict[str, Any], registry: Registry, scope: str | None = None) -> type | None:
    """The class of the object that a part of a config builds. Arguments as in :func:`is_kind`.

    Returns:
        type, optional: None where it is not known.
    """
    found = part.get('type')
    if isinstance(found, str):
        name = found
        with registry.switch_scope_and_registry(scope) as scoped:
            found = scoped.get(name)
            if found is not None and not isinstance(found, type):
                import_module(found.__module__)  # a name whose class is imported late
                found = scoped.get(name)
    return found if isinstance(found, type) else None
