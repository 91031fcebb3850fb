"""Boxes in slots: choosing the highest scores, decoding, and setting groups apart."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NO_SCORE = -1.0  # of an empty slot; scores are probabilities


def is_taken(scores: Tensor) -> Tensor:
    """Which slots hold a box."""
    return scores > NO_SCORE / 2


def highest(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each image, in order.

    Where the number of scores is not known, as in a file for any size, there are always ``most``
    slots, of which some may be empty.

    Args:
        scores (Tensor): Shape (B, N).
        most: How many.

    Returns:
        tuple: Scores and indices, (B, K), K = min(N, most); index 0 in slots that padding took.
    """
    number = scores.shape[1]
    if isinstance(number, int):
        return scores.topk(min(number, most), 1)
    scores, index = F.pad(scores, (0, most), value=NO_SCORE).topk(most, 1)
    return scores, torch.where(is_taken(scores), index, 0)


def decode(coder: Any, boxes: Tensor, deltas: Tensor, limit: Tensor) -> Tensor:
    """Boxes moved and scaled as a head asks for, as mmdet's DeltaXYWHBBoxCoder does.

    Args:
        coder: mmdet's, for its settings.
        boxes (Tensor): Anchors or proposals, shape (..., 4).
        deltas (Tensor): dx, dy, dw, dh; shape (..., 4).
        limit (Tensor): Largest coordinates, shape (4, ).
    """
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    largest = abs(math.log(16 / 1000))  # mmdet's wh_ratio_clip, which no setting changes
    sizes = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + sizes * deltas[..., :2]
    halves = sizes * deltas[..., 2:].clamp(-largest, largest).exp() * 0.5
    corners = torch.cat([centres - halves, centres + halves], -1)
    return torch.minimum(corners.clamp(min=0), limit)


def set_apart(boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
    """Boxes shifted so that those of different groups do not overlap.

    Groups are suppressed separately in any case. But mmcv does it by shifting, which rounds the
    boxes, and whether two overlap by more than a threshold must not depend on where it is computed.

    Args:
        boxes (Tensor): Shape (B, N, 4).
        scores (Tensor): Shape (B, N); only boxes that have one count.
        groups (Tensor): Level or class, broadcastable to (B, N).
    """
    largest = torch.where(is_taken(scores)[..., None], boxes, 0.0).amax((1, 2))
    return boxes + (groups.to(boxes.dtype) * (largest[:, None] + 1))[..., None]
