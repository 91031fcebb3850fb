"""What is wrong with a COCO annotation file. Read only after a run has failed: the files are large."""

import json
import os
from collections.abc import Iterator
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

FIELDS = dict(
    images=('id', 'file_name', 'height', 'width'),
    annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
    categories=('id', 'name'),
)


def problem_of_split(cfg: Config, split: str) -> str | None:
    """One sentence about the first annotation file of a split with something wrong in it; None if all are well."""
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
    masks = _loads_masks(dataset)
    return next(
        filter(None, (annotation_problem(path, masks) for path in coco_files(dataset))), None
    )


def coco_files(dataset: Any) -> Iterator[str]:
    """Local annotation files of the COCO datasets in a dataset's config, which may be wrapped or concatenated."""
    if not isinstance(dataset, dict):
        return
    kind = (
        DATASETS.get(dataset['type'])
        if isinstance(dataset.get('type'), str)
        else dataset.get('type')
    )
    if isinstance(kind, type) and issubclass(kind, CocoDataset):
        path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if os.path.isfile(path):
            yield path
    for inner in [dataset.get('dataset'), *(dataset.get('datasets') or [])]:
        yield from coco_files(inner)


def _loads_masks(dataset: Any) -> bool:
    if isinstance(dataset, dict):
        return bool(dataset.get('with_mask')) or any(
            _loads_masks(value) for value in dataset.values()
        )
    return isinstance(dataset, (list, tuple)) and any(map(_loads_masks, dataset))


def annotation_problem(path: str, masks: bool = False) -> str | None:
    """One sentence about what is wrong in a COCO annotation file; None if nothing is.

    Args:
        path: The file.
        masks: Whether every annotation needs a segmentation.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:
        return f'annotation file {path!r} is not JSON: {error}'
    problem = _problem_in(content, masks)
    return f'annotation file {path!r} {problem}' if problem else None


def _problem_in(content: Any, masks: bool) -> str | None:
    if not isinstance(content, dict):
        return (
            f'holds a {type(content).__name__}, not an object with the fields {", ".join(FIELDS)}'
        )
    for field, keys in FIELDS.items():
        entries = content.get(field)
        if not isinstance(entries, list):
            return (
                f'lacks the list {field!r}' if field not in content else f'has no list in {field!r}'
            )
        if masks and field == 'annotations':
            keys = (*keys, 'segmentation')
        problem = _problem_of_entries(field, entries, keys)
        if problem:
            return problem
    return _problem_of_boxes(content['annotations']) or (
        None if content['images'] else 'lists no images'
    )


def _problem_of_entries(field: str, entries: list[Any], keys: tuple[str, ...]) -> str | None:
    seen: dict[Any, int] = {}
    for index, entry in enumerate(entries):
        lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if lacking:
            return f'lacks {lacking[0]!r} in {field}[{index}]: {str(entry)[:120]}'
        if seen.setdefault(entry['id'], index) != index:
            return f'gives {field}[{seen[entry["id"]]}] and {field}[{index}] the same id {entry["id"]!r}'
    return None


def _problem_of_boxes(annotations: list[dict[str, Any]]) -> str | None:
    for index, entry in enumerate(annotations):
        box = entry['bbox']
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(number, (int, float)) for number in box)
        ):
            return f'has bbox={box!r} in annotations[{index}] (id {entry["id"]!r}), where [x, y, width, height] is meant'
    return None
