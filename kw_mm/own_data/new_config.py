"""Writing a config for a data set of one's own: ``kw_mm new-config``."""

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..annotations import count, problem_in
from ..annotations.coco_reader import read
from ..config_files import config_names
from ..errors import AnnotationError, UserError
from ..files import check_file, check_folder, write_text
from ..run_config import SPLIT_TITLES, load_config, walk_transforms
from ..validation import few
from .config_text import Split, config_text
from .exported_files import find_splits
from .image_folders import find_images, relative
from .oddities import (
    classes_of,
    instances_of,
    odd_annotations,
    odd_classes,
    odd_images,
    odd_sizes,
    with_masks,
)
from .repairs import add_categories, drop_unused_twins, repair
from .splitting import split_content
from .suggested_schedule import suggest_schedule

BOXES_ONLY = 'faster_rcnn_kw_r50_1x_coco'
PREPARED = '_annotations'  # behind the config's name: the folder of annotation files made for it


@dataclass
class Part:
    """A split of the data set, as it was found and as it will be used.

    Args:
        path: Its annotation file.
        content: What that holds, put right.
        folder: Of its images.
        changes: What was put right, in words.
    """

    path: Path
    content: dict[str, Any]
    folder: Path
    changes: list[str] = field(default_factory=list)


def new_config(
    dataset: Sequence[str],
    base: str = 'mask_rcnn_kw_r50_1x_coco',
    output: str | None = None,
    *,
    overwrite: bool = False,
    val_share: float = 0.2,
    seed: int = 0,
) -> list[str]:
    """Write a config that trains a base config's model on a data set exported in COCO format.

    Where the export cannot be used as it is (one file for everything, file names of another
    system, categories that a split lacks), annotation files made from it are written to a folder
    beside the config; the export itself is never changed.

    Args:
        dataset: Its folder, or annotation files, ``train=FILE`` where the name does not say it.
        base: The config to begin with, a name or a file.
        output: The config to write; by default the data set's name and ``.py``.
        overwrite: Whether files that exist are replaced.
        val_share: Share of the images for validation where no file is for it.
        seed: Of the split.

    Returns:
        list: What was found and written, a line each.

    Raises:
        UserError: It cannot be trained on as it is, or a file exists; says what would work.

    Example:
        >>> print(*new_config(['export/'], output='mine.py'), sep='\n')
    """
    if not 0 < val_share < 1:
        raise UserError(f'--val-share must be between 0 and 1, got {val_share}; 0.2 is usual')
    if output:
        _check_target(Path(output), overwrite)
    base = os.path.abspath(base) if os.path.isfile(base) else base
    cfg = load_config(base)
    masks = _check_base(cfg, base)
    root, files = find_splits(dataset)
    target = Path(output or f'{_module_name(root.name)}.py')
    _check_target(target, overwrite)
    parts = {split: _read_part(path, root, split) for split, path in files.items()}
    said = [f'{split}: {relative(part.path, root)}' for split, part in parts.items()]
    unlabelled = [split for split, part in parts.items() if not part.content['annotations']]
    for split in unlabelled:
        if split == 'train':
            raise UserError(f'{str(parts[split].path)!r} must have annotations, got none')
        said.append(f'odd: {relative(parts[split].path, root)} has no annotations and is not used')
        del parts[split]
    said += _complete(parts, val_share, seed)
    contents = {split: part.content for split, part in parts.items()}
    classes, groups = classes_of(contents)
    said += [
        f'odd: category {name!r} has no annotations and others below it: a group, not a class'
        for name in groups
    ]
    for part in parts.values():
        part.changes += add_categories(part.content, classes)
    _check_masks(parts, masks, base)
    used = {
        split: _check_values(split, part, classes, masks, cfg, said)
        for split, part in parts.items()
    }
    said += [f'odd: {oddity}' for oddity in _oddities(parts, classes)]
    schedule = suggest_schedule(used['train'], cfg.train_dataloader.batch_size)
    splits = {
        split: Split(
            _place(part, split, target, root), _folder(part, root), len(part.content['images'])
        )
        for split, part in parts.items()
    }
    text = config_text(base, cfg, f'{root.as_posix()}/', classes, splits, schedule)
    said += _write(target, text, parts, overwrite)
    said += _summary(target, parts, classes, schedule)
    return said


def _check_base(cfg: Config, base: str) -> bool:
    """Whether a base config needs masks."""
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    if 'ann_file' not in dataset or not cfg.get('model', {}).get('backbone'):
        raise UserError(
            f'--base must train a detector on one data set in COCO format, got {base!r}; use for '
            f'example mask_rcnn_kw_r50_1x_coco or {BOXES_ONLY}'
        )
    if cfg.train_cfg.get('max_epochs') is None:
        raise UserError(
            f'--base must train for epochs, got {base!r} with train_cfg={dict(cfg.train_cfg)}; use '
            f'for example mask_rcnn_kw_r50_1x_coco or {BOXES_ONLY}'
        )
    return any(step.get('with_mask') for step in walk_transforms(dataset.get('pipeline')))


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix != '.py':
        raise UserError(f'--output must be a Python file, got {str(target)!r}; end it in .py')
    check_file(target, '--output')
    for path in (target, _prepared(target)):
        if path.exists() and not overwrite:
            raise UserError(
                f'{str(path)!r} exists; name another --output, or replace it with --overwrite'
            )


def _read_part(path: Path, root: Path, split: str) -> Part:
    content = read(str(path), str(path))
    if isinstance(content, dict) and content.get('annotations') is None:
        content['annotations'] = []
    _refuse(path, problem_in(_only_lists(content)))
    changes = drop_unused_twins(content)
    _refuse(path, problem_in(_only_lists(content), classes=_names(content)))
    images = find_images(content, path, root, split)
    try:
        changes += repair(content, images.rename, images.renamed)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        problem = problem_in(content) or 'has an annotation that cannot be read'
        raise AnnotationError(f'annotation file {str(path)!r} {problem}') from error
    if images.missing:
        gone = set(map(images.rename, images.missing))
        ids = {image['id'] for image in content['images'] if image['file_name'] in gone}
        content['images'] = [image for image in content['images'] if image['id'] not in ids]
        content['annotations'] = [
            one for one in content['annotations'] if one['image_id'] not in ids
        ]
        changes.append(
            f'{len(ids)} images are not in {str(images.folder)!r} and are left out '
            f'({few(sorted(images.missing))})'
        )
    return Part(path, content, images.folder, changes)


def _refuse(path: Path, problem: str | None) -> None:
    if problem:
        raise AnnotationError(f'annotation file {str(path)!r} {problem}')


def _only_lists(content: Any) -> Any:
    """A file's content without annotations, whose values are looked at after they are put right."""
    return {**content, 'annotations': []} if isinstance(content, dict) else content


def _names(content: Any) -> list[str]:
    categories = content.get('categories') if isinstance(content, dict) else None
    return [
        category['name']
        for category in categories or []
        if isinstance(category, dict) and isinstance(category.get('name'), str)
    ]


def _complete(parts: dict[str, Part], share: float, seed: int) -> list[str]:
    """Make sure of a validation set: the test set's file, or a share of the training images."""
    if 'val' in parts:
        return []
    if 'test' in parts:
        parts['val'] = copy.deepcopy(parts['test'])
        return ['odd: there is no validation set: the test set is validated on, too']
    whole = parts['train']
    train, val = split_content(whole.content, share, seed)
    split = (
        f'one file for everything: {len(val["images"])} of {len(whole.content["images"])} images '
        f'are drawn for validation (--val-share {share:g} --seed {seed})'
    )
    parts['train'] = Part(whole.path, train, whole.folder, [*whole.changes, split])
    parts['val'] = Part(whole.path, val, whole.folder, [split])
    return [
        f'odd: {split}; frames of one video, or crops of one picture, should be on one side: then '
        'name files, train=FILE val=FILE'
    ]


def _check_masks(parts: dict[str, Part], masks: bool, base: str) -> None:
    if not masks:
        return
    for part in parts.values():
        number, found = len(part.content['annotations']), with_masks(part.content)
        if found < number:
            lacking = 'none' if not found else f'{found} of {number}'
            raise UserError(
                f'{base} needs a mask (segmentation) of every annotation, got {lacking} in '
                f'{str(part.path)!r}; --base {_without_masks(base)} trains on boxes'
            )


def _without_masks(base: str) -> str:
    twin = base.replace('mask_rcnn', 'faster_rcnn')
    return twin if twin != base and twin in config_names() else BOXES_ONLY


def _check_values(
    split: str, part: Part, classes: Sequence[str], masks: bool, cfg: Config, said: list[str]
) -> int:
    """Check a split by value; how many of its images can be used."""
    settings = cfg.train_dataloader.dataset.get('filter_cfg') or {}
    images = [dict(image) for image in part.content['images']]  # counting changes them
    account = count(
        {**part.content, 'images': images},
        str(part.path),
        classes,
        masks=masks,
        evaluated=split != 'train',
        min_size=settings.get('min_size', 0) if split == 'train' else 0,
    )
    if not account.used:
        raise AnnotationError(
            f'annotation file {str(part.path)!r} gives no instance to {SPLIT_TITLES[split]}: all '
            f'annotations are left out: {account.reasons()}'
        )
    if account.surprising:
        said.append(f'odd: {split}: {account.summary()}')
    annotated = {one['image_id'] for one in part.content['annotations']}
    return sum(image['id'] in annotated for image in part.content['images'])


def _oddities(parts: dict[str, Part], classes: Sequence[str]) -> list[str]:
    contents = {split: part.content for split, part in parts.items()}
    others = {split: content for split, content in contents.items() if split != 'test'}
    found = [f'{split}: {change}' for split, part in parts.items() for change in part.changes]
    found = [line for line in found if 'one file for everything' not in line]
    sizes = [odd for part in parts.values() for odd in odd_sizes(part.content, part.folder)]
    return list(
        dict.fromkeys(
            [
                *found,
                *odd_classes(others, classes),
                *odd_images(contents if parts['val'].path != parts['train'].path else others),
                *odd_annotations(contents),
                *sizes,
            ]
        )
    )


def _place(part: Part, split: str, target: Path, root: Path) -> str:
    if part.changes:
        return (_prepared(target).resolve() / f'{split}.json').as_posix()
    return relative(part.path, root)


def _folder(part: Part, root: Path) -> str:
    place = relative(part.folder, root)
    return '' if place == '.' else f'{place}/'


def _prepared(target: Path) -> Path:
    return target.with_name(target.stem + PREPARED)


def _write(target: Path, text: str, parts: dict[str, Part], overwrite: bool) -> list[str]:
    made = [split for split, part in parts.items() if part.changes]
    if made:
        folder = _prepared(target)
        check_folder(folder, '--output')
        for split in made:
            write_text(folder / f'{split}.json', json.dumps(parts[split].content))
    write_text(target, text)
    return [f'written: {target}', *(f'written: {_prepared(target) / split}.json' for split in made)]


def _summary(target: Path, parts: dict[str, Part], classes: Sequence[str], schedule) -> list[str]:
    numbers = ', '.join(
        f'{len(part.content["images"])} {SPLIT_TITLES[split]} images with '
        f'{sum(instances_of(part.content).values())} annotations'
        for split, part in parts.items()
    )
    return [
        f'found: {len(classes)} classes ({few(list(classes), 10)}); {numbers}',
        f'schedule: {schedule.epochs} epochs, {schedule.iterations:,} iterations (a rule of thumb)',
        f'next: kw_mm train {target} --auto-scale-lr',
    ]


def _module_name(name: str) -> str:
    """A file name that mmengine can import: letters, digits and underscores."""
    cleaned = ''.join(c if c.isascii() and c.isalnum() else '_' for c in name).strip('_').lower()
    return f'data_{cleaned}' if not cleaned or cleaned[0].isdigit() else cleaned
