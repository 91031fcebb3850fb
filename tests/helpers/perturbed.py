"""Detections like those of a trained model, made from the ground truth."""

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO


def perturbed_truth(coco: COCO, rng, copies=3, clutter=5):
    """For each image a data sample as ``CocoMetric.process`` takes it.

    Each annotation is found some times, shifted, now and then as another class, and there are
    detections of nothing. Scores are rounded, so that some are equal.
    """
    labels = {category: i for i, category in enumerate(coco.getCatIds())}
    for image_id in coco.getImgIds():
        image = coco.imgs[image_id]
        size = image['height'], image['width']
        found = [
            _shifted(rle.decode(coco.annToRLE(ann)), rng)
            for ann in coco.imgToAnns[image_id]
            for _ in range(copies)
        ]
        classes = [
            labels[ann['category_id']] for ann in coco.imgToAnns[image_id] for _ in range(copies)
        ]
        for _ in range(clutter):
            y, x = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
            blob = np.zeros(size, np.uint8)
            blob[y : y + rng.integers(2, size[0]), x : x + rng.integers(2, size[1])] = 1
            found.append(blob)
            classes.append(rng.integers(len(labels)))
        masks = [rle.encode(np.asfortranarray(mask)) for mask in found]
        boxes = torch.tensor(np.array([rle.toBbox(mask) for mask in masks]).reshape(-1, 4)).float()
        boxes[:, 2:] += boxes[:, :2]
        classes = np.where(
            rng.random(len(classes)) < 0.1, rng.integers(len(labels), size=len(classes)), classes
        )
        scores = torch.tensor(rng.random(len(classes))).float().mul(50).round().div(50)
        yield dict(
            img_id=image_id,
            ori_shape=size,
            pred_instances=dict(
                bboxes=boxes + torch.tensor(rng.normal(0, 1, boxes.shape)).float(),
                scores=scores,
                labels=torch.tensor(classes).long(),
                masks=masks,
            ),
        )


def _shifted(mask, rng):
    return np.roll(mask, rng.integers(-6, 7, size=2), axis=(0, 1))
