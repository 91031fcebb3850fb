"""What is wrong with COCO annotation files; read after a run has failed, as they are large."""

import json
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..run_config import annotation_path, datasets_of, walk_datasets, walk_transforms

FIELDS = dict(
    images=('id', 'file_name', 'height', 'width'),
    annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
    categories=('id', 'name'),
)


def problem_of_split(cfg: Config, split: str) -> str | None:
    """One sentence about a split's first annotation file with something wrong in it.

    Args:
        cfg: The config of the run.
        split: 'train', 'val' or 'test'.

    Returns:
        str, optional: Names the file, the entry and the field; None if nothing is wrong.
    """
    datasets = [dataset for _, dataset in datasets_of(cfg, split)]
    masks = any(
        step.get('with_mask')
        for dataset in datasets
        for step in walk_transforms(dataset.get('pipeline'))
    )
    outermost = datasets[0] if datasets else None
    problems = (annotation_problem(path, masks) for path in coco_files(outermost))
    return next(filter(None, problems), None)


def coco_files(dataset: Any) -> Iterator[str]:
    """Local annotation files of the COCO datasets in a dataset's config, wrapped ones too."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    for _, part in walk_datasets(dataset):
        kind = part.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        path = annotation_path(part)
        if isinstance(kind, type) and issubclass(kind, CocoDataset) and os.path.isfile(path):
            yield path


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
            first = seen[entry['id']]
            return f'gives {field}[{first}] and {field}[{index}] the same id {entry["id"]!r}'
    return None


def _problem_of_boxes(annotations: list[dict[str, Any]]) -> str | None:
    for index, entry in enumerate(annotations):
        box = entry['bbox']
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(number, (int, float)) for number in box)
        ):
            return (
                f'has bbox={box!r} in annotations[{index}] (id {entry["id"]!r}), '
                'where [x, y, width, height] is meant'
            )
    return None
