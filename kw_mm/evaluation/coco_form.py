"""Detections in COCO's result form: a list of dicts, one per detection."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.structures.mask import encode_mask_results
from torch import Tensor

# of the 90 that the annotations number
COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def category_ids(classes: Sequence[str], annotation_file: str | None = None) -> list[int]:
    """The dataset's category id of each label.

    Args:
        classes: Names, in the order of the labels.
        annotation_file: The dataset's annotations in COCO's form, if they are there.

    Returns:
        list: COCO's own ids for COCO's 80 classes, else those of the annotation file, else 1, 2,
            ...
    """
    if tuple(classes) == CocoDataset.METAINFO['classes']:
        return [i for i in range(1, 91) if i not in COCO_UNUSED]
    if annotation_file:
        with open(annotation_file) as file:
            categories = json.load(file)['categories']
        ids = [
            category['id'] for category in categories if category['name'] in classes
        ]  # mmdet's order of labels
        if len(ids) == len(classes):
            return ids
    return list(range(1, len(classes) + 1))


def coco_results(
    instances: Mapping[str, Any],
    image_id: int,
    file_name: str,
    classes: Sequence[str],
    ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Detections of one image.

    Args:
        instances: bboxes (N, 4) as x1, y1, x2, y2 in pixels of the image, scores (N, ), labels (N,
            ) and, of a detector with masks, masks (N, H, W).
        image_id: Of the dataset.
        file_name: Of the image.
        classes: Names by label.
        ids: Category ids by label.

    Returns:
        list: dicts of image_id, file_name, category_id, category_name, bbox [x, y, w, h], score
            and, with masks,
        segmentation, run lengths as pycocotools encodes them (size [h, w], counts a string).
    """
    boxes = instances['bboxes'].tolist()
    results = [
        dict(
            image_id=image_id,
            file_name=file_name,
            category_id=ids[label],
            category_name=classes[label],
            bbox=[x1, y1, x2 - x1, y2 - y1],
            score=score,
        )
        for (x1, y1, x2, y2), score, label in zip(
            boxes, instances['scores'].tolist(), instances['labels'].tolist()
        )
    ]
    if 'masks' in instances:
        for result, mask in zip(results, _run_lengths(instances['masks'])):
            result['segmentation'] = mask
    return results


def _run_lengths(masks: Any) -> list[dict[str, Any]]:
    masks = masks.cpu().numpy() if isinstance(masks, Tensor) else np.asarray(masks)
    return [
        dict(size=mask['size'], counts=mask['counts'].decode())
        for mask in encode_mask_results(masks)
    ]
