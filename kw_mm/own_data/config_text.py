"""The text of a config for a data set of one's own."""

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ..errors import UserError
from ..run_config import kind_of
from .suggested_schedule import Schedule

WIDTH = 100
MOST_ON_A_LINE = WIDTH - len('backbone=,')
CLASS_HEADS = ('bbox_head', 'mask_head')  # which predict the data set's classes
# torchvision's weights by what a backbone is
PLAIN_WEIGHTS = {
    'ResNet': 'torchvision://resnet{depth}',
    'MobileNetV2': 'torchvision://mobilenet_v2',
    'ConvNeXt': 'torchvision://convnext_{arch}',
}
WITH_ATTENTION = ('KW', 'Dynamic')
DEFAULTS = dict(depth=50, arch='tiny')


@dataclass(frozen=True)
class Split:
    """Where a split is, as the config writes it.

    Args:
        annotations: The annotation file, relative to the data's folder or absolute.
        images: The folder of its images, likewise.
        number: Of images.
    """

    annotations: str
    images: str
    number: int


class Code(str):
    """Python code, in the place of a value."""


def config_text(
    base: str,
    cfg: Config,
    data_root: str,
    classes: Sequence[str],
    splits: Mapping[str, Split],
    schedule: Schedule,
) -> str:
    """A config that trains, validates and tests a base config's model on a data set.

    Args:
        base: The base config, as the user named it.
        cfg: What it holds.
        data_root: The data's folder, absolute.
        classes: Names of the classes.
        splits: By 'train', 'val' and 'test'; the last may be missing.
        schedule: The training schedule.
    """
    numbers = ', '.join(f'{split.number} {name}' for name, split in splits.items())
    weights, why = plain_start(cfg)
    backbone = f'    # {why}\n    backbone={_written(weights, 4)},\n' if weights else ''
    heads = ',\n    '.join(
        f'{name}={_written(value)}' for name, value in class_heads(cfg, len(classes))
    )
    tested = splits.get('test', splits['val'])
    loaders = {'train': splits['train'], 'val': splits['val'], 'test': tested}
    return (
        f'# {_title(cfg)} on a data set of your own: {numbers} images.\n'
        f'# Written by kw_mm new-config from {base}; every line is yours to change.\n'
        f'_base_ = {_base(base)}\n\n'
        f'# if it moves: --cfg-options data_root=FOLDER/\ndata_root = {data_root!r}\n'
        f'metainfo = {_written(dict(classes=Code(_classes(classes))))}\n\n'
        f'model = dict(\n{backbone}    # anchors stay as they are\n    {heads})\n\n'
        + ''.join(_loader(name, split) for name, split in loaders.items())
        + f'val_evaluator = {_written(dict(ann_file=_path(splits["val"].annotations)))}\n'
        f'test_evaluator = {_written(dict(ann_file=_path(tested.annotations)))}\n\n'
        + _schedule(schedule, splits['train'].number)
    )


def class_heads(cfg: Config, number: int) -> Iterator[tuple[str, Any]]:
    """(key in the model, value) that set the number of classes of every head that predicts them.

    Raises:
        UserError: The config's model has no such head.
    """
    found = False
    for where in (None, 'roi_head'):
        parts = cfg.model.get(where) or {} if where else cfg.model
        heads = {}
        for name in CLASS_HEADS:
            head = parts.get(name)
            path = f'{where}.{name}' if where else name
            if isinstance(head, list):  # of a cascade
                heads[name] = Code(
                    f'[dict(head, num_classes={number}) for head in _base_.model.{path}]'
                )
            elif head and 'num_classes' in head:
                heads[name] = dict(num_classes=number)
        if heads and where:
            yield where, heads
        elif heads:
            yield from heads.items()
        found = found or bool(heads)
    if not found:
        raise UserError(
            f'--base must be a detector with one of the heads {", ".join(CLASS_HEADS)}, got '
            f'{cfg.filename!r}; use for example faster_rcnn_kw_r50_1x_coco'
        )


def plain_start(cfg: Config) -> tuple[dict[str, Any], str]:
    """What a backbone takes to start from torchvision's weights, and what that means, in words.

    Empty where it starts from them anyway, or where there are none of its size.
    """
    backbone = cfg.model.get('backbone') or {}
    name = str(backbone.get('type'))
    kind = next((kind for kind in PLAIN_WEIGHTS if name.endswith(kind)), None)
    if kind is None or backbone.get('widen_factor', 1) != 1 or 'base_channels' in backbone:
        return {}, ''
    weights = PLAIN_WEIGHTS[kind].format(**{**DEFAULTS, **backbone})
    if (backbone.get('init_cfg') or {}).get('checkpoint') == weights:
        return {}, ''
    start: dict[str, Any] = dict(init_cfg=dict(type='Pretrained', checkpoint=weights))
    if not name.startswith(WITH_ATTENTION):
        return start, "torchvision's ImageNet weights"
    begins = 'nearly' if backbone.get('budget', 1) < 1 else 'as'
    why = f"begins {begins} torchvision's plain network"
    if kind == 'ConvNeXt' or not backbone.get('norm_eval'):
        return start, why
    norm: dict[str, Any] = dict(attention_norm='LN')
    if 'conv' in backbone:
        conv = kind_of(backbone.conv, MODELS)
        has_norm = conv is not None and 'attention_norm' in inspect.signature(conv).parameters
        norm = dict(conv=norm) if has_norm else {}
    if not norm:
        return start, why
    return {**norm, **start}, f'{why}; LN, as a batch norm learns nothing under norm_eval'


def _title(cfg: Config) -> str:
    return f'{cfg.model.type} with {cfg.model.get("backbone", {}).get("type")}'


def _base(base: str) -> str:
    is_name = not base.endswith('.py') and '::' not in base
    return f"__import__('kw_mm').config({base!r})" if is_name else repr(base)


def _classes(classes: Sequence[str]) -> str:
    text = ', '.join(map(repr, classes)) + (',' if len(classes) == 1 else '')
    lines = textwrap.wrap(text, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return f'({text})' if len(lines) == 1 else '(\n    ' + '\n    '.join(lines) + ')'


def _loader(name: str, split: Split) -> str:
    files = [f'ann_file={split.annotations!r}', f'data_prefix=dict(img={split.images!r})']
    joint = ', ' if len(', '.join(files)) < WIDTH - 8 else ',\n    '
    return (
        f'{name}_dataloader = dict(dataset=dict(\n'
        f'    data_root=data_root, metainfo=metainfo,\n    {joint.join(files)}))\n'
    )


def _path(path: str) -> Any:
    return path if path.startswith('/') else Code(f'data_root + {path!r}')


def _schedule(schedule: Schedule, images: int) -> str:
    first, second = schedule.steps
    return (
        f'# A rule of thumb for {images} images: {schedule.iterations:,} iterations at the batch '
        'size of the base.\n'
        f'train_cfg = dict(max_epochs={schedule.epochs}, val_interval={schedule.interval})\n'
        'param_scheduler = [\n'
        f"    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, "
        f'end={schedule.warm_up}),\n'
        f"    dict(type='MultiStepLR', by_epoch=True, begin=0, end={schedule.epochs}, "
        f'milestones=[{first}, {second}], gamma=0.1)]\n'
        'default_hooks = dict(checkpoint=dict(\n'
        f'    interval={schedule.interval}, max_keep_ckpts=2, '
        "save_best='coco/bbox_mAP', rule='greater'))\n"
    )


def _written(value: Any, indent: int = 0) -> str:
    """A value as Python code; an entry a line where that would be too long, from a column on."""
    if isinstance(value, Code):
        return value
    if isinstance(value, dict):
        entries = [f'{key}={_written(entry)}' for key, entry in value.items()]
        one_line = f'dict({", ".join(entries)})'
        gap = '\n' + ' ' * (indent + 4)
        broken = f'dict({gap}{f",{gap}".join(entries)})'
        return broken if indent and indent + len(one_line) > MOST_ON_A_LINE else one_line
    return repr(value)
