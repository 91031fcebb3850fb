"""What was found in one image: numbers as numpy arrays, pictures, and other projects' forms."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample

from ..errors import UserError, one_line
from ..evaluation.coco_results import coco_results
from .drawings import write_picture

if TYPE_CHECKING:
    from .inferencers import ConfiguredInferencer


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult:
    """What results of all kinds of models have in common.

    Attributes:
        path: The image's path or URL, or None.
        size: Its (height, width) in pixels.
    """

    infer: 'ConfiguredInferencer' = field(repr=False)
    image: str | np.ndarray = field(repr=False)
    path: str | None
    size: tuple[int, int]

    def plot(self) -> np.ndarray:
        """The image with what was found drawn into it, (H, W, 3) in BGR, uint8, as OpenCV has it.

        Raises:
            ImageError: The image cannot be read any more.
        """
        image = self.image
        if isinstance(image, str):
            image = self.infer.read_image(image)
        return self.infer.draw(image, self._as_sample())

    def save(self, path: str | Path) -> Path:
        """Write :meth:`plot` to a file, in the format that its name ends in.

        Raises:
            UserError: The format or the disk does not take it.
        """
        write_picture(Path(path), self.plot())
        return Path(path)

    def summary(self) -> str:
        """What was found, in words."""
        raise NotImplementedError

    def _as_sample(self) -> Any:
        """As the package drawing it has it."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        """The picture, for notebooks."""
        return cv2.imencode('.png', self.plot())[1].tobytes()

    def __repr__(self) -> str:
        where = '' if self.path is None else f'{self.path}, '
        return f'{type(self).__name__}({where}{self.size[0]} x {self.size[1]}: {self.summary()})'


@dataclass(frozen=True, eq=False, repr=False)
class Detections(ImageResult):
    """Objects in one image.

    Attributes:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels of the image, float32.
        scores: (N, ), 0 to 1, float32.
        labels: (N, ), numbers of classes, from 0, int64.
        names: Their names.
        masks: (N, H, W), bool; None of a model without masks.
        image_id: For COCO's form: the number that the file is named by, as COCO does, or the
            image's place in the call, from 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    image_id: int
    category_ids: list[int] = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the classes, one for each object."""
        return [self.infer.class_names[label] for label in self.labels]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_thr: float) -> 'Detections':
        """Only the objects that score more."""
        kept = self.scores > score_thr
        arrays = {
            name: None if (array := getattr(self, name)) is None else array[kept]
            for name in ('boxes', 'scores', 'labels', 'masks')
        }
        return replace(self, **arrays)

    def summary(self) -> str:
        """How many of which class; 'nothing' of none."""
        counts = Counter(self.names)
        return ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """In COCO's result form, with the dataset's category ids.

        Args:
            image_id: Of the image; by default ``self.image_id``.

        Returns:
            list: dicts of image_id, file_name, category_id, category_name, bbox [x, y, w, h], score
            and, with masks, segmentation (run lengths).
        """
        return coco_results(
            self._arrays(),
            self.image_id if image_id is None else image_id,
            Path(self.path or '').name,
            self.infer.class_names,
            self.category_ids,
        )

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``, with names in ``data['class_name']``.

        Raises:
            UserError: The package is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                f'to_supervision() needs the package supervision, got {one_line(error)!r}; '
                'pip install supervision'
            ) from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data=dict(class_name=np.array(self.names, dtype=str)),
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = dict(bboxes=self.boxes, scores=self.scores, labels=self.labels)
        return arrays if self.masks is None else {**arrays, 'masks': self.masks}

    def _as_sample(self) -> DetDataSample:
        tensors = {key: torch.from_numpy(array) for key, array in self._arrays().items()}
        return DetDataSample(pred_instances=InstanceData(**tensors))


@dataclass(frozen=True, eq=False, repr=False)
class Classification(ImageResult):
    """The most likely classes of one image, the most likely first.

    Attributes:
        labels: (k, ), numbers of classes, from 0, int64.
        scores: (k, ), 0 to 1, float32.
        names: Their names.
        label, score, name: Of the most likely one.
        probabilities: Scores of all classes by number, (C, ), float32.
    """

    labels: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the most likely classes."""
        return [self.infer.class_names[label] for label in self.labels]

    @property
    def label(self) -> int:
        """The most likely class's number."""
        return int(self.labels[0])

    @property
    def name(self) -> str:
        """The most likely class's name."""
        return self.names[0]

    @property
    def score(self) -> float:
        """The most likely class's score."""
        return float(self.scores[0])

    def summary(self) -> str:
        """The most likely class and its score."""
        return f'{self.name} {self.score:.2f}'

    def _as_sample(self) -> DataSample:
        scores = torch.from_numpy(self.probabilities)
        return DataSample().set_pred_label(self.label).set_pred_score(scores)
