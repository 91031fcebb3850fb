"""Comparing a written detector with mmdet's own predictions, on pictures."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

from ..errors import UserError
from ..files import files_in
from ..run_config import tested_dataset
from .pasting import paste

Detections = dict[str, np.ndarray]  # of one image: boxes, scores, labels and perhaps masks
PICTURES = 3


class DetectionRow(NamedTuple):
    """One comparison.

    Args:
        batch: Images.
        size: (height, width).
        detections: That PyTorch finds in them.
        missing: Detections that only one of both finds, beyond those at the score threshold.
        box: Largest difference of a coordinate, in pixels.
        score: Largest difference of a score.
        mask_iou: Lowest overlap of a mask with PyTorch's, as intersection over union.
    """

    batch: int
    size: tuple[int, int]
    detections: int
    missing: int
    box: float
    score: float
    mask_iou: float

    def excess(self) -> float:
        """By how much it deviates: in scores, tenths of pixels and tenths of masks."""
        if self.missing:
            return math.inf
        return max(self.score, self.box / 10, (1 - self.mask_iou) / 10)


@torch.no_grad()
def compare_detections(
    model: nn.Module,
    run: Callable[[Tensor], Sequence[Tensor]],
    pictures: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    *,
    from_pixels: bool,
    tolerance: float,
) -> list[DetectionRow]:
    """Compare what a file detects with what the model predicts.

    Args:
        model: mmdet's detector.
        run: Images -> num, boxes, scores, labels and perhaps masks, from a file.
        pictures: (H, W, 3) in BGR, uint8; each is resized to each size.
        sizes: (height, width) of the images.
        batches: Numbers of images.
        from_pixels: Whether the file preprocesses images.
        tolerance: How far from the score threshold a detection may be that only one of both finds.
    """
    rows = []
    for size in sizes:
        resized = [cv2.resize(picture, size[::-1]) for picture in pictures]
        for batch in batches:
            images = np.stack([resized[i % len(resized)] for i in range(batch)])
            expected, tensors = predict(model, images)
            outputs = run(torch.from_numpy(images) if from_pixels else tensors)
            found = split([output.numpy() for output in outputs], size)
            rows.append(_compared(expected, found, size, _edges(model, expected), tolerance))
    return rows


def predict(model: nn.Module, images: np.ndarray) -> tuple[list[Detections], Tensor]:
    """What mmdet detects in images, and its preprocessed images without their padding.

    Args:
        model: mmdet's detector.
        images: uint8 (B, H, W, 3) in BGR.
    """
    height, width = images.shape[1:3]
    sample = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
    data = model.data_preprocessor(
        dict(
            inputs=[torch.from_numpy(image).permute(2, 0, 1) for image in images],
            data_samples=[DetDataSample(metainfo=sample) for _ in images],
        ),
        False,
    )
    samples = model.predict(data['inputs'], data['data_samples'], rescale=False)
    found = [
        {
            name: getattr(sample.pred_instances, key).numpy()
            for name, key in dict(
                boxes='bboxes', scores='scores', labels='labels', masks='masks'
            ).items()
            if key in sample.pred_instances
        }
        for sample in samples
    ]
    return found, data['inputs'][:, :, :height, :width]


def split(outputs: Sequence[np.ndarray], size: tuple[int, int]) -> list[Detections]:
    """A file's outputs image by image, without empty slots, masks pasted into the image."""
    number, *slots = outputs
    names = ('boxes', 'scores', 'labels', 'masks')
    images = [
        {name: slot[image, :count] for name, slot in zip(names, slots)}
        for image, count in enumerate(number)
    ]
    for image in images:
        if 'masks' in image:
            image['masks'] = paste(image['masks'], image['boxes'], size)
    return images


def _edges(model: nn.Module, expected: list[Detections]) -> list[list[float]]:
    """Scores at which rounding decides what is detected: the threshold, and the last one's."""
    settings = model.roi_head.test_cfg if hasattr(model, 'roi_head') else model.bbox_head.test_cfg
    lowest = settings.get('score_thr', 0)
    return [
        [lowest, *image['scores'][settings.max_per_img - 1 : settings.max_per_img]]
        for image in expected
    ]


def _compared(
    expected: list[Detections],
    found: list[Detections],
    size: tuple[int, int],
    edges: list[list[float]],
    tolerance: float,
) -> DetectionRow:
    missing, boxes, scores, overlaps = 0, [0.0], [0.0], [1.0]
    for one, other, edge in zip(expected, found, edges):
        missing += int((np.diff(other['scores']) > 0).any())  # they are in order
        pairs = matches(one, other)
        for image, taken in ((one, [i for i, _ in pairs]), (other, [j for _, j in pairs])):
            alone = np.delete(image['scores'], taken)
            far = [min(abs(score - at) for at in edge) > tolerance for score in alone]
            missing += sum(map(int, far))
        for i, j in pairs:
            boxes.append(float(np.abs(one['boxes'][i] - other['boxes'][j]).max()))
            scores.append(float(abs(one['scores'][i] - other['scores'][j])))
            if 'masks' in one:
                overlaps.append(overlap(one['masks'][i], other['masks'][j]))
    number = sum(len(image['scores']) for image in expected)
    return DetectionRow(
        len(expected), tuple(size), number, missing, max(boxes), max(scores), min(overlaps)
    )


def matches(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Pairs of detections of one class whose corners are within a pixel, the nearest ones first.

    Detections of the same score may come in either order.
    """
    distance = np.abs(one['boxes'][:, None] - other['boxes'][None]).max(-1, initial=0)
    distance += np.abs(one['scores'][:, None] - other['scores'][None])
    distance[one['labels'][:, None] != other['labels'][None]] = np.inf
    near = np.argwhere(distance < 1)
    pairs: dict[int, int] = {}
    for i, j in near[np.argsort(distance[tuple(near.T)], kind='stable')].tolist():
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def pictures_for(cfg: Config, paths: Sequence[str]) -> list[np.ndarray]:
    """Pictures to compare on: those that are named, else the config's, else drawn ones.

    Args:
        cfg: The folder of its tested dataset is looked into.
        paths: Pictures, and folders of them.

    Returns:
        list: Up to three, uint8 (H, W, 3) in BGR.

    Raises:
        UserError: A path that does not exist, or that holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f'--images {str(path)!r} does not exist; name pictures or a folder')
        found += files_in(path) if path.is_dir() else [path]
    if paths and not found:
        raise UserError(f'--images: no picture is in {", ".join(map(repr, paths))}; name another')
    if not paths:
        dataset = tested_dataset(cfg)
        folder = os.path.join(
            dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('img', '')
        )
        found = files_in(folder) if folder and os.path.isdir(folder) else []
    return [_read(path) for path in found[:PICTURES]] or drawn_pictures()


def _read(path: Path) -> np.ndarray:
    picture = mmcv.imread(str(path))
    if picture is None:
        raise UserError(f'--images: picture {str(path)!r} cannot be read; name another')
    return picture


def drawn_pictures(number: int = PICTURES, size: tuple[int, int] = (256, 320)) -> list[np.ndarray]:
    """Rectangles and ellipses in random colours, uint8 (H, W, 3)."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(number):
        picture = np.full((*size, 3), random.integers(256, size=3), np.uint8)
        for i in range(8):
            centre = random.integers(0, size[::-1])
            half = random.integers(8, 64, size=2)
            colour = tuple(map(int, random.integers(256, size=3)))
            if i % 2:
                corners = (centre - half).tolist(), (centre + half).tolist()
                cv2.rectangle(picture, *corners, colour, -1)
            else:
                cv2.ellipse(picture, centre.tolist(), half.tolist(), 30 * i, 0, 360, colour, -1)
        pictures.append(picture)
    return pictures
