"""A detector up to its detections, in steps that a file can hold.

What mmdet's ``predict`` computes image by image, on as many boxes as there are, is computed here
for the whole batch at once on a fixed number of slots, of which some stay empty. Only masks are
computed for as many detections as there are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import TwoStageDetector
from torch import Tensor, nn

from .boxes import NO_SCORE, decode, highest, is_taken, set_apart
from .detection_ops import kept_by_nms, region_features, translations
from .supported import check_detector

CONTRACT = dict(
    num='detections of each image, which are in its first slots',
    boxes='x1, y1, x2, y2 in pixels of the input',
    scores='highest first; 0 in empty slots',
    labels='index into classes; -1 in empty slots',
    masks='probabilities on a grid that spans the box; to be pasted into the image',
)
PIXELS = {0: 'batch', 1: 'height', 2: 'width'}  # axes of images as they are read
TENSORS = {0: 'batch', 2: 'height', 3: 'width'}  # and of preprocessed ones


class DetectionsPart(nn.Module):
    """Images -> number of detections, boxes, scores, labels and, where there are any, masks.

    All images of a batch have one size; inside they are padded to the multiple that the model was
    trained with. For B images and D slots (``max_per_img``), the outputs are

    - ``num``, int64 (B, ): detections of each image; they are in its first slots,
    - ``boxes``, (B, D, 4): x1, y1, x2, y2 in pixels of the input,
    - ``scores``, (B, D): highest first; 0 in empty slots,
    - ``labels``, int64 (B, D): index of the class; -1 in empty slots,
    - ``masks``, (B, D, S, S): probabilities on a grid of S x S bins that spans the box.

    Args:
        model: A detector of mmdet.
        with_preprocessing: Whether images come as they are read, uint8 (B, H, W, 3) in BGR, and not
            preprocessed, (B, 3, H, W).

    Raises:
        UserError: A model with steps that differ from those which are written here.
    """

    def __init__(self, model: nn.Module, *, with_preprocessing: bool = False):
        super().__init__()
        check_detector(model)
        self.preprocessor = Preprocessor(model.data_preprocessor, with_preprocessing)
        self.axes = PIXELS if with_preprocessing else TENSORS
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head: nn.Module
        if isinstance(model, TwoStageDetector):
            self.head = TwoStageHead(model.rpn_head, model.roi_head)
        else:
            self.head = DenseHead(model.bbox_head)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        padded, limit = self.preprocessor(images)
        return self.head(self.neck(self.backbone(padded)), limit)

    def names(self, outputs: tuple[Tensor, ...]) -> list[str]:
        """One name for each output."""
        return list(CONTRACT)[: len(outputs)]

    def contract(self, names: Sequence[str]) -> dict[str, Any]:
        """What the outputs are, and the settings that they were made with."""
        keys = ('score_thr', 'max_per_img', 'mask_thr_binary')
        settings = {key: self.head.settings[key] for key in keys if key in self.head.settings}
        return {**{name: CONTRACT[name] for name in names}, **settings}

    def onnx_operators(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """What stands in ONNX for torch operators that its exporter does not know."""
        return translations()


class Preprocessor(nn.Module):
    """Images -> padded images and the corner up to which boxes may reach, (w, h, w, h).

    Args:
        preprocessor: mmdet's.
        from_pixels: Whether it normalises, too, from uint8 (B, H, W, 3) in BGR.
    """

    def __init__(self, preprocessor: nn.Module, from_pixels: bool):
        super().__init__()
        self.from_pixels = from_pixels
        self.flips = getattr(preprocessor, '_channel_conversion', False)
        self.normalises = getattr(preprocessor, '_enable_normalize', False)
        if self.normalises:
            self.register_buffer('mean', preprocessor.mean.float())
            self.register_buffer('std', preprocessor.std.float())
        self.divisor = int(getattr(preprocessor, 'pad_size_divisor', 1))
        self.pad_value = float(getattr(preprocessor, 'pad_value', 0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.from_pixels:
            images = images.permute(0, 3, 1, 2).contiguous()
            images = (images.flip(1) if self.flips else images).to(torch.float32)
            images = (images - self.mean) / self.std if self.normalises else images
        height, width = images.shape[2:]
        sides = [torch.scalar_tensor(side, dtype=torch.float32) for side in (width, height)]
        # not -(-side // d): ONNX divides towards 0
        down, right = (
            (side + self.divisor - 1) // self.divisor * self.divisor - side
            for side in (height, width)
        )
        padded = F.pad(images, (0, right, 0, down), value=self.pad_value)
        return padded, torch.stack(sides * 2)


class DenseHead(nn.Module):
    """Features -> detections of a one-stage detector with anchors, such as RetinaNet.

    Args:
        head: mmdet's AnchorHead.
    """

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head, self.settings = head, head.test_cfg

    def forward(self, features: tuple[Tensor, ...], limit: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            features: Of each level, (B, C, H, W).
            limit: (width, height, width, height) of the images.
        """
        boxes, scores, labels = self._candidates(features, limit)
        shifted = set_apart(boxes, scores, labels)
        kept = kept_by_nms(shifted, scores, self.settings.nms.iou_threshold, NO_SCORE / 2)
        scores = torch.where(kept, scores, NO_SCORE)
        scores, index = highest(scores, self.settings.max_per_img)
        return in_slots(rows_of(boxes, index), scores, labels.gather(1, index))

    def _candidates(
        self, features: tuple[Tensor, ...], limit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The highest scores of each level, (B, K), with boxes and labels."""
        found: list[tuple[Tensor, ...]] = []
        lowest = self.settings.get('score_thr', 0)
        for scores, deltas, anchors in levels_of(self.head, features):
            classes = scores.shape[2]
            scores = torch.where(scores > lowest, scores, NO_SCORE).flatten(1)
            scores, index = highest(scores, self.settings.nms_pre)
            anchor = index // classes
            boxes = decode(self.head.bbox_coder, anchors[anchor], rows_of(deltas, anchor), limit)
            found.append((boxes, large_enough(boxes, scores, self.settings), index % classes))
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*found))
        return boxes, scores, labels


class TwoStageHead(nn.Module):
    """Features -> detections of Faster R-CNN and Mask R-CNN.

    Args:
        rpn: mmdet's RPNHead.
        roi_head: mmdet's StandardRoIHead.
    """

    def __init__(self, rpn: nn.Module, roi_head: nn.Module):
        super().__init__()
        self.rpn, self.roi_head, self.settings = rpn, roi_head, roi_head.test_cfg

    def forward(self, features: tuple[Tensor, ...], limit: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            features: Of each level, (B, C, H, W).
            limit: (width, height, width, height) of the images.
        """
        detected = self._detections(features, *self._proposals(features, limit), limit)
        if not self.roi_head.with_mask:
            return in_slots(*detected)
        return *in_slots(*detected), self._masks(features, *detected)

    def _proposals(self, features: tuple[Tensor, ...], limit: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) and scores (B, P) of the RPN."""
        rpn, settings = self.rpn, self.rpn.test_cfg
        found: list[tuple[Tensor, ...]] = []
        for level, (scores, deltas, anchors) in enumerate(levels_of(rpn, features)):
            scores, index = highest(scores.flatten(1), settings.nms_pre)
            boxes = decode(rpn.bbox_coder, anchors[index], rows_of(deltas, index), limit)
            scores = large_enough(boxes, scores, settings)
            found.append((boxes, scores, torch.full_like(index, level)))
        boxes, scores, levels = (torch.cat(parts, 1) for parts in zip(*found))
        sizes = [part[1].shape[1] for part in found]
        groups = set_apart(boxes, scores, levels).split(sizes, 1), scores.split(sizes, 1)
        threshold = settings.nms.iou_threshold
        kept = [kept_by_nms(*group, threshold, NO_SCORE / 2) for group in zip(*groups)]
        scores, index = highest(
            torch.where(torch.cat(kept, 1), scores, NO_SCORE), settings.max_per_img
        )
        return rows_of(boxes, index), scores

    def _detections(
        self, features: tuple[Tensor, ...], proposals: Tensor, of_rpn: Tensor, limit: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, D, 4), scores (B, D) and labels (B, D)."""
        head, settings = self.roi_head.bbox_head, self.settings
        pooled = pool(self.roi_head.bbox_roi_extractor, features, proposals, is_taken(of_rpn))
        logits, deltas = head(pooled)
        slots, classes = proposals.shape[1], head.num_classes
        scores = logits.softmax(-1)[:, :-1].unflatten(0, (-1, slots))  # (B, P, classes)
        scores = torch.where(is_taken(of_rpn)[..., None], scores, NO_SCORE).transpose(1, 2)
        deltas = deltas.reshape(-1, slots, deltas.shape[1] // 4, 4).transpose(1, 2)
        boxes = decode(head.bbox_coder, proposals[:, None], deltas, limit)
        boxes = boxes.expand(-1, classes, -1, -1)
        labels = torch.arange(classes)[:, None].expand(-1, slots)
        candidates = torch.where(scores > settings.score_thr, scores, NO_SCORE).flatten(1)
        boxes, labels = boxes.flatten(1, 2), labels.flatten()[None]
        shifted = set_apart(boxes, candidates, labels).unflatten(1, (classes, slots))
        kept = kept_by_nms(
            shifted.flatten(0, 1),
            candidates.unflatten(1, (classes, slots)).flatten(0, 1),
            settings.nms.iou_threshold,
            NO_SCORE / 2,
        )
        candidates = torch.where(kept.unflatten(0, (-1, classes)).flatten(1), candidates, NO_SCORE)
        scores, index = highest(candidates, settings.max_per_img)
        return rows_of(boxes, index), scores, index // slots

    def _masks(
        self, features: tuple[Tensor, ...], boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> Tensor:
        """Probabilities (B, D, S, S), computed for slots that are taken and 0 in others."""
        head = self.roi_head.mask_head
        taken = is_taken(scores).flatten()
        # the first slot always: not every runtime convolves nothing
        rows = (taken | (torch.arange(taken.shape[0]) == 0)).nonzero()[:, 0]
        regions = regions_of(boxes)[rows]
        extractor = self.roi_head.mask_roi_extractor
        logits = head(pool_regions(extractor, features, regions, taken[rows]))
        if not head.class_agnostic:
            of_class = labels.flatten()[rows].view(-1, 1, 1, 1)
            logits = logits.gather(1, of_class.expand(-1, 1, *logits.shape[2:]))
        masks = logits[:, 0].sigmoid() * taken[rows][:, None, None]
        empty = masks.new_zeros(taken.shape[0], *masks.shape[1:])
        return empty.index_put((rows,), masks).unflatten(0, (-1, boxes.shape[1]))


def levels_of(head: nn.Module, features: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Of each level: scores (B, N, classes), deltas (B, N, 4) and anchors (N, 4)."""
    maps = head(features)
    sizes = [scores.shape[-2:] for scores in maps[0]]
    anchors = head.prior_generator.grid_priors(sizes, dtype=maps[0][0].dtype, device='cpu')
    found = []
    for scores, deltas, boxes in zip(*maps, anchors):
        scores, deltas = (
            out.permute(0, 2, 3, 1).reshape(out.shape[0], -1, last)
            for out, last in ((scores, head.cls_out_channels), (deltas, 4))
        )
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        found.append((scores, deltas, boxes))
    return found


def large_enough(boxes: Tensor, scores: Tensor, settings: Any) -> Tensor:
    """Scores, of boxes that are not larger than ``min_bbox_size`` none."""
    least = settings.get('min_bbox_size', -1)
    if least < 0:
        return scores
    fits = (boxes[..., 2:] - boxes[..., :2] > least).all(-1)
    return torch.where(fits, scores, NO_SCORE)


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows (B, K, 4) of a table (B, N, 4)."""
    return table.gather(1, index[..., None].expand(-1, -1, 4))


def regions_of(boxes: Tensor) -> Tensor:
    """Boxes (B, K, 4) with the index of their image in front, (B K, 5)."""
    image = torch.arange(boxes.shape[0], dtype=boxes.dtype)[:, None, None]
    return torch.cat([image.expand(-1, boxes.shape[1], 1), boxes], 2).flatten(0, 1)


def pool(
    extractor: nn.Module, features: tuple[Tensor, ...], boxes: Tensor, taken: Tensor
) -> Tensor:
    """Features (B K, C, S, S) of boxes (B, K, 4), 0 in empty slots."""
    return pool_regions(extractor, features, regions_of(boxes), taken.flatten())


def pool_regions(
    extractor: nn.Module, features: tuple[Tensor, ...], regions: Tensor, taken: Tensor
) -> Tensor:
    """The same for regions (R, 5)."""
    layers = extractor.roi_layers
    levels = extractor.map_roi_levels(regions, len(layers))
    return region_features(
        list(features[: len(layers)]),
        regions,
        torch.where(taken, levels, -1),
        layers[0].output_size[0],
        [layer.spatial_scale for layer in layers],
        layers[0].sampling_ratio,
        layers[0].aligned,
    )


def in_slots(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Detections as they are given out: their number, and nothing in empty slots."""
    taken = is_taken(scores)
    return (
        taken.sum(1),
        torch.where(taken[..., None], boxes, 0.0),
        torch.where(taken, scores, 0.0),
        torch.where(taken, labels, -1),
    )
