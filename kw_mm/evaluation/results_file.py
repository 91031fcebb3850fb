"""Writing what a test detected."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from .coco_form import category_ids, coco_results


class ResultsFile(BaseMetric):
    """A metric without numbers: it writes all detections of a test to one file, in COCO's result form.

    Args:
        path: JSON file to write.
        classes: Names by label.
        annotation_file: The dataset's annotations in COCO's form, if it has such.
    """

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
        """Write the file; there is no number to return."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps([result for image in results for result in image]))
        return {}
