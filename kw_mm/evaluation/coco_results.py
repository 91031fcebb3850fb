"""Detections in COCO's result form: a list of dicts, one per detection, and a file of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.structures.mask import encode_mask_results
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..files import write_text

# COCO's annotations count to 90 and leave these out.
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
        ids = {category['name']: category['id'] for category in categories}
        if all(name in ids for name in classes):
            return [ids[name] for name in classes]
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
        instances: bboxes (N, 4) as x1, y1, x2, y2 in pixels of the image, scores (N, ), labels
            (N, ) and, of a detector with masks, masks (N, H, W).
        image_id: The image's id in its dataset.
        file_name: The image's file, without its folder.
        classes: Names by label.
        ids: Category ids by label.

    Returns:
        list: dicts of image_id, file_name, category_id, category_name, bbox [x, y, w, h], score
        and, with masks, segmentation: run lengths as pycocotools encodes them (size [h, w],
        counts a string).
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


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write detections in COCO's result form to a JSON file, all or nothing.

    Raises:
        OSError: The disk does not take it.
    """
    write_text(path, json.dumps(results))


class ResultsFile(BaseMetric):
    """A metric without numbers: it writes all detections of a test to one file.

    Args:
        path: JSON file to write, in COCO's result form.
        classes: Names by label.
        annotation_file: The dataset's annotations in COCO's form, if it has such.
    """

    default_prefix = ''  # it has no numbers that need one

    def __init__(
        self, path: str, classes: Sequence[str], annotation_file: str | None = None
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.classes = classes
        self.ids = category_ids(classes, annotation_file)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Take the detections of a batch."""
        for sample in data_samples:
            self.results.append(
                coco_results(
                    sample['pred_instances'],
                    sample['img_id'],
                    Path(sample['img_path']).name,
                    self.classes,
                    self.ids,
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write the file; there are no metrics to return."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_results(self.path, [result for image in results for result in image])
        return {}
