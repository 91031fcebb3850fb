"""COCO ground truth as its evaluation needs it, whoever wrote the file."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log

from ..annotations.problems import problem_of_annotation
from ..annotations.segmentations import LEAST
from ..errors import AnnotationError
from ..validation import few


def prepare_ground_truth(coco: Any, name: str) -> None:
    """Make annotations such that perfect detections score AP 1, in place.

    ``COCOeval`` needs ``iscrowd``, and takes id 0 for "not matched"; nothing overlaps a box without
    an area. So ``iscrowd`` is 0 where it is left out, annotations whose ids are not integers from
    1 on, or come twice, are numbered anew, and those without an area are left out.

    Args:
        coco: pycocotools' ``COCO``.
        name: The file's name, for errors.

    Raises:
        AnnotationError: A value that cannot be evaluated; names the entry.
    """
    annotations = coco.dataset.get('annotations') or []
    changed, kept = False, []
    for index, one in enumerate(annotations):
        _check(index, one, name)
        if one.get('iscrowd') is None:
            one['iscrowd'] = 0
        if one['bbox'][2] > 0 and one['bbox'][3] > 0:
            kept.append(one)
    if len(kept) < len(annotations):
        print_log(
            f'annotation file {name!r}: {len(annotations) - len(kept)} of {len(annotations)} '
            'annotations are left out of the evaluation: their boxes have no area',
            logger='current',
            level=logging.WARNING,
        )
        coco.dataset['annotations'], changed = kept, True
    ids = {one['id'] for one in kept}
    if len(ids) < len(kept) or not all(type(key) is int and key > 0 for key in ids):
        for number, one in enumerate(kept, 1):
            one['id'] = number
        changed = True
    if changed:
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs


def prepare_masks(coco: Any, ids: Sequence[Any], name: str) -> None:
    """Check that annotations have masks that can be evaluated.

    Parts of polygons with fewer than three points are left out, in place, as training does.

    Args:
        coco: pycocotools' ``COCO``.
        ids: Of the categories that are evaluated.
        name: The file's name, for errors.

    Raises:
        AnnotationError: A mask that cannot be evaluated, or an image without a size; names it.
    """
    sizes = {key: (image.get('width'), image.get('height')) for key, image in coco.imgs.items()}
    for key, size in sizes.items():
        if not all(type(side) is int and side > 0 for side in size):
            raise AnnotationError(
                f'annotation file {name!r} has width={size[0]!r} and height={size[1]!r} of the '
                f'image with id {key!r}, where numbers of pixels are meant: masks are drawn in them'
            )
    for index, one in enumerate(coco.dataset.get('annotations') or []):
        if one['category_id'] in ids and one['image_id'] in sizes:
            _check(index, one, name, sizes)
            polygons = one['segmentation']
            if isinstance(polygons, list) and any(len(part) < LEAST for part in polygons):
                one['segmentation'] = [part for part in polygons if len(part) >= LEAST]


def _check(index: int, one: dict[str, Any], name: str, sizes: dict | None = None) -> None:
    fields = ('bbox', 'area') if sizes is None else ('segmentation',)
    lacking = [key for key in fields if key not in one]
    if lacking:
        problem = f'lacks {lacking[0]!r} in annotations[{index}] (id {one["id"]!r})'
    else:
        problem = problem_of_annotation(index, one, sizes)
    if problem:
        raise AnnotationError(f'annotation file {name!r} {problem}')


def ids_by_name(coco: Any, classes: Sequence[str], name: str) -> list[Any]:
    """Category ids in the order of the classes; a log line says so if the file's order differs.

    Args:
        coco: pycocotools' ``COCO``.
        classes: Names by label.
        name: The file's name.

    Raises:
        AnnotationError: A class without a category, or with several.
    """
    categories = [
        category for category in coco.dataset['categories'] if category['name'] in classes
    ]
    ids = {category['name']: category['id'] for category in categories}
    missing = [one for one in classes if one not in ids]
    if missing or len(categories) > len(ids):
        named = [category['name'] for category in coco.dataset['categories']]
        raise AnnotationError(
            f'annotation file {name!r} must have one category of each class, '
            + (f'got none of {few(missing)}' if missing else 'got two of one name')
            + f'; it has {few(named, 5)}'
        )
    if [category['name'] for category in categories] != list(classes):
        print_log(
            f'annotation file {name!r} lists its categories as '
            f'{few([category["name"] for category in categories], 5)}; the order of the classes is '
            f'{few(list(classes), 5)}: labels go by name, as datasets give them that '
            "kw_mm's runner builds (mmdet's own go by place)",
            logger='current',
            level=logging.WARNING,
        )
    return [ids[one] for one in classes]


def integer_ids(coco: Any) -> bool:
    """Whether all ids of images and categories are integers."""
    return all(type(key) is int for key in [*coco.imgs, *coco.cats])


def fault_of_stock_metric(coco: Any, classes: Sequence[str]) -> str | None:
    """What mmdet's own metric gets wrong of a file without a word, or fails on after an epoch.

    Args:
        coco: pycocotools' ``COCO``.
        classes: Names by label.
    """
    names = [one['name'] for one in coco.dataset['categories'] if one['name'] in classes]
    if names != list(classes):
        return (
            f'lists its categories as {few(names, 5)}, which is not the order of the classes, '
            f'{few(list(classes), 5)}'
        )
    for index, one in enumerate(coco.dataset.get('annotations') or ()):
        if type(one['id']) is not int or one['id'] < 1:
            return f'has id={one["id"]!r} in annotations[{index}], which it takes for unmatched'
        if one.get('iscrowd') is None:
            return f'lacks iscrowd in annotations[{index}] (id {one["id"]!r})'
    return None
