"""Suppression and region features as operators of torch that ONNX has operators of its own for.

An exporter sees nothing but their shapes, which do not depend on what is detected: boxes are
marked, not selected. In PyTorch they compute with mmcv, as mmdet does; a file has ONNX's
NonMaxSuppression and RoiAlign in their place (:func:`translations`). They need torch 2.4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmcv.ops import nms, roi_align
from torch import Tensor


@torch.library.custom_op(
    'kw_mm::kept_by_nms',
    mutates_args=(),
    schema='(Tensor boxes, Tensor scores, float iou_threshold, float score_threshold) -> Tensor',
)
def kept_by_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float
) -> Tensor:
    """Which boxes non-maximum suppression leaves.

    Args:
        boxes (Tensor): Of G groups that do not suppress each other, shape (G, K, 4), as
            x1, y1, x2, y2.
        scores (Tensor): Shape (G, K).
        iou_threshold: A box goes if it overlaps one of higher score by more.
        score_threshold: Boxes whose score is not higher neither stay nor suppress others.

    Returns:
        Tensor: bool, shape (G, K).
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for group in range(len(boxes)):
        rows = (scores[group] > score_threshold).nonzero()[:, 0]
        if len(rows):
            _, found = nms(boxes[group, rows], scores[group, rows], iou_threshold)
            kept[group, rows[found]] = True
    return kept


@kept_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op(
    'kw_mm::region_features',
    mutates_args=(),
    schema='(Tensor[] maps, Tensor regions, Tensor levels, SymInt size, float[] scales, '
    'int sampling_ratio, bool aligned) -> Tensor',
)
def region_features(
    maps: Sequence[Tensor],
    regions: Tensor,
    levels: Tensor,
    size: int,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign, each region from its level of the pyramid.

    Args:
        maps: Features of each level, shape (B, C, H, W).
        regions (Tensor): Index of the image, x1, y1, x2, y2 in pixels; shape (R, 5).
        levels (Tensor): Level of each region, shape (R, ); of no level, features are 0.
        size: Bins in each direction.
        scales: Of each level's map to the image, 1 / stride.
        sampling_ratio: Points in each direction of a bin; 0 for as many as there are pixels.
        aligned: Whether pixels are half a pixel from their index.

    Returns:
        Tensor: Shape (R, C, size, size).
    """
    out = maps[0].new_zeros(len(regions), maps[0].shape[1], size, size)
    for level, (features, scale) in enumerate(zip(maps, scales)):
        rows = (levels == level).nonzero()[:, 0]
        if len(rows):
            # mmcv reads memory in order, whatever the strides
            out[rows] = roi_align(
                features.contiguous(),
                regions[rows],
                (size, size),
                scale,
                sampling_ratio,
                'avg',
                aligned,
            )
    return out


@region_features.register_fake
def _(
    maps: Sequence[Tensor],
    regions: Tensor,
    levels: Tensor,
    size: int,
    scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return maps[0].new_empty(regions.shape[0], maps[0].shape[1], size, size)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What stands for the operators in an ONNX file, for ``custom_translation_table``."""
    from onnxscript import opset18 as op

    def rows_where(mask):
        return op.Squeeze(op.NonZero(mask), [0])

    def kept(boxes, scores, iou_threshold: float, score_threshold: float):
        # rows of group, class (there is one), box
        found = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, [1]),
            op.Constant(value_int=2**31 - 1),
            op.Constant(value_float=iou_threshold),
            op.Constant(value_float=score_threshold),
        )
        pairs = op.Gather(found, [0, 2], axis=1)
        zeros = op.Expand(op.Constant(value_int=0), op.Shape(scores))
        ones = op.Expand(op.Constant(value_int=1), op.Shape(pairs, start=0, end=1))
        return op.Cast(op.ScatterND(zeros, pairs, ones), to=9)  # to bool

    def features(
        maps,
        regions,
        levels,
        size: int,
        scales: Sequence[float],
        sampling_ratio: int,
        aligned: bool,
    ):
        images = op.Cast(op.Squeeze(op.Slice(regions, [0], [1], [1]), [1]), to=7)  # to int64
        corners = op.Slice(regions, [1], [5], [1])
        rows, pooled = [], []
        for level, (one, scale) in enumerate(zip(maps, scales)):
            of_level = rows_where(op.Equal(levels, op.Constant(value_int=level)))
            rows.append(of_level)
            pooled.append(
                op.RoiAlign(
                    one,
                    op.Gather(corners, of_level),
                    op.Gather(images, of_level),
                    coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
                    output_height=size,
                    output_width=size,
                    sampling_ratio=sampling_ratio,
                    spatial_scale=scale,
                )
            )
        if len(maps) == 1:
            rows, pooled = rows[0], pooled[0]
        else:
            rows, pooled = op.Concat(*rows, axis=0), op.Concat(*pooled, axis=0)
        shape = op.Concat(op.Shape(regions, start=0, end=1), op.Shape(pooled, start=1), axis=0)
        zeros = op.Expand(op.Constant(value_float=0.0), shape)
        return op.ScatterND(zeros, op.Unsqueeze(rows, [1]), pooled)

    operators = torch.ops.kw_mm
    return {operators.kept_by_nms.default: kept, operators.region_features.default: features}
