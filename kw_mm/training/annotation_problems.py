"""What is wrong with COCO annotation files; read after a run has failed, as they are large."""

import json
import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..annotations import problem_in
from ..run_config import annotation_path, datasets_of, walk_datasets, walk_transforms


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
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except ValueError as error:
        return f'annotation file {path!r} is not JSON: {error}'
    problem = problem_in(content, masks)
    return f'annotation file {path!r} {problem}' if problem else None
