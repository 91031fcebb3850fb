"""Which detectors a file can hold up to their detections: those that take mmdet's usual steps."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmcv.ops import RoIAlign
from mmdet.models import (
    AnchorHead,
    BBoxHead,
    FCNMaskHead,
    RPNHead,
    SingleRoIExtractor,
    StandardRoIHead,
)
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from torch import nn

from ..errors import UserError

OTHERWISE = '--part maps writes what its dense head computes, --part backbone its features'
PREDICTING = ('predict', 'predict_by_feat')
ONE_IMAGE = ('_predict_by_feat_single', '_bbox_post_process')
# part: class: methods that must be this class's own, since a file repeats what they do
STEPS: dict[str, dict[type, tuple[str, ...]]] = {
    'a one-stage model': {SingleStageDetector: ('predict', 'extract_feat')},
    'a two-stage model': {TwoStageDetector: ('predict', 'extract_feat')},
    'bbox_head': {BaseDenseHead: PREDICTING + ONE_IMAGE, AnchorHead: ('forward',)},
    'rpn_head': {BaseDenseHead: PREDICTING, AnchorHead: ('forward',), RPNHead: ONE_IMAGE},
    'roi_head': {
        BaseRoIHead: ('predict',),
        StandardRoIHead: ('predict_bbox', 'predict_mask', '_bbox_forward', '_mask_forward'),
    },
    'roi_head.bbox_head': {BBoxHead: ('predict_by_feat', '_predict_by_feat_single')},
    'roi_head.mask_head': {FCNMaskHead: ('predict_by_feat', '_predict_by_feat_single')},
    'roi_head.bbox_roi_extractor': {SingleRoIExtractor: ('forward', 'map_roi_levels')},
    'roi_head.mask_roi_extractor': {SingleRoIExtractor: ('forward', 'map_roi_levels')},
}


def check_detector(model: nn.Module) -> None:
    """Check that a detector's steps after the backbone are those that a file can hold.

    Raises:
        UserError: Names the first that is not.
    """
    reason = next(_reasons(model), None)
    if reason:
        raise UserError(f'--part detector cannot be written: {reason}; {OTHERWISE}')


def _reasons(model: nn.Module) -> Iterator[str]:
    if isinstance(model, TwoStageDetector) and model.with_rpn:
        yield from _other_steps(model, 'a two-stage model')
        yield from _of_dense_head(model.rpn_head, 'rpn_head')
        yield from _of_roi_head(model.roi_head)
    elif isinstance(model, SingleStageDetector):
        yield from _other_steps(model, 'a one-stage model')
        yield from _of_dense_head(model.bbox_head, 'bbox_head')
    else:
        yield (
            'it must be a one-stage detector with anchors (RetinaNet) or a two-stage detector '
            f'with an RPN (Faster R-CNN, Mask R-CNN), got a {type(model).__name__}'
        )
    for name, module in model.named_modules():
        if type(module).__module__.startswith('mmcv.ops.') and not isinstance(module, RoIAlign):
            yield f"{name} is mmcv's {type(module).__name__}, which has no form in ONNX"


def _other_steps(module: nn.Module, part: str) -> Iterator[str]:
    """Methods that are not those of mmdet's usual class."""
    *_, usual = STEPS[part]
    for owner, methods in STEPS[part].items():
        for method in methods:
            if getattr(type(module), method, None) is not getattr(owner, method):
                yield (
                    f'{part} must predict as a {usual.__name__} does, got a '
                    f'{type(module).__name__}, whose {method} is another one'
                )


def _of_dense_head(head: nn.Module, part: str) -> Iterator[str]:
    yield from _other_steps(head, part)
    if not isinstance(head.prior_generator, AnchorGenerator):
        yield f'{part} must have an AnchorGenerator, got a {type(head.prior_generator).__name__}'
    yield from _of_scores(head.loss_cls, part)
    yield from _of_coder(head.bbox_coder, part)
    yield from _of_settings(head.test_cfg, part, ('nms_pre', 'max_per_img'))


def _of_roi_head(head: nn.Module) -> Iterator[str]:
    yield from _other_steps(head, 'roi_head')
    if head.with_shared_head:
        yield f'roi_head must have no shared_head, got a {type(head.shared_head).__name__}'
    boxes, part = head.bbox_head, 'roi_head.bbox_head'
    yield from _other_steps(boxes, part)
    if not (boxes.with_cls and boxes.with_reg):
        yield f'{part} must predict both classes and boxes'
    yield from _of_scores(boxes.loss_cls, part)
    yield from _of_coder(boxes.bbox_coder, part)
    yield from _of_settings(head.test_cfg, 'roi_head', ('max_per_img',))
    yield from _of_extractor(head.bbox_roi_extractor, 'roi_head.bbox_roi_extractor')
    if head.with_mask:
        yield from _other_steps(head.mask_head, 'roi_head.mask_head')
        yield from _of_extractor(head.mask_roi_extractor, 'roi_head.mask_roi_extractor')


def _of_scores(loss: nn.Module, part: str) -> Iterator[str]:
    if getattr(loss, 'custom_cls_channels', False):
        yield (
            f'scores of {part} must be a sigmoid or a softmax, got what a '
            f'{type(loss).__name__} makes of them'
        )


def _of_coder(coder: Any, part: str) -> Iterator[str]:
    if type(coder) is not DeltaXYWHBBoxCoder or not coder.clip_border or coder.add_ctr_clamp:
        yield (
            f'{part} must have a DeltaXYWHBBoxCoder with clip_border=True and '
            f'add_ctr_clamp=False, got a {type(coder).__name__} with other settings'
            if type(coder) is DeltaXYWHBBoxCoder
            else f'{part} must have a DeltaXYWHBBoxCoder, got a {type(coder).__name__}'
        )


def _of_settings(settings: Any, part: str, counts: Sequence[str]) -> Iterator[str]:
    nms = settings.get('nms') or {}
    if nms.get('type') != 'nms' or nms.keys() - {'type', 'iou_threshold', 'split_thr'}:
        yield (
            f"test_cfg of {part} must have nms=dict(type='nms', iou_threshold=...), got "
            f'nms={dict(nms)}'
        )
    for count in counts:
        if (settings.get(count) or 0) < 1:
            yield f'test_cfg of {part} must have a positive {count}, got {settings.get(count)}'


def _of_extractor(extractor: nn.Module, part: str) -> Iterator[str]:
    yield from _other_steps(extractor, part)
    for layer in getattr(extractor, 'roi_layers', ()):
        square = isinstance(layer, RoIAlign) and len(set(layer.output_size)) == 1
        if not square or layer.pool_mode != 'avg':
            yield f'{part} must average in square RoIAlign layers, got {layer}'
