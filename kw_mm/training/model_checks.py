"""Checks that the parts of a model fit together, before training: what they do not say themselves.

A neck for other channels ends in torch's words at the first iteration; anchors for another stride
than that of the features never do.
"""

from collections.abc import Iterator, Sequence
from logging import WARNING
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoints import LoadsAnyLayout
from ..errors import ConfigError

LEAST_SIDE = 64  # pixels of the image: two of a usual backbone's last features
DENSE_HEADS = ('rpn_head', 'bbox_head')
PRIORS = ('prior_generator', 'square_anchor_generator')
ROI_EXTRACTORS = ('bbox_roi_extractor', 'mask_roi_extractor', 'keypoint_roi_extractor')
SEGMENTATION_HEADS = ('decode_head', 'auxiliary_head')


class Expected(NamedTuple):
    """The strides that a head is set for.

    Args:
        setting: Where they are set.
        strides: One for each feature map.
        takes_all: Whether it takes all feature maps, or the first ones.
    """

    setting: str
    strides: list[int]
    takes_all: bool


def check_model(model: nn.Module) -> None:
    """Check that backbone, neck and heads agree on feature maps: number, channels and strides.

    Channels and strides are those that an image of zeros shows, and are looked at where the
    backbone is one of ours.

    Raises:
        ConfigError: They do not; names both settings.
    """
    backbone, neck = getattr(model, 'backbone', None), getattr(model, 'neck', None)
    check_feature_maps(backbone, neck)
    if not isinstance(backbone, LoadsAnyLayout):
        return
    _warn_of_unread_stages(backbone)
    expected = list(expected_strides(model))
    # the coarsest features are two pixels wide, so that twice their stride shows, too
    side = max([LEAST_SIDE, *(2 * stride for head in expected for stride in head.strides)])
    features = _features(backbone, _zeros(backbone, side))
    if features is None:
        return
    _check_channels('model.neck.in_channels', getattr(neck, 'in_channels', None), features)
    for where, head in _parts(model, SEGMENTATION_HEADS):
        _check_segmentation_head(where, head, features)
    reached = _features(neck, tuple(features)) if neck is not None else features
    for head in expected if reached is not None else ():
        _check_strides(head, [side / feature.shape[-1] for feature in reached], backbone)
    classifier = getattr(getattr(model, 'head', None), 'in_channels', None)
    if isinstance(classifier, int) and reached and reached[-1].dim() == 2:
        _check_channels('model.head.in_channels', [classifier], reached[-1:])


def check_feature_maps(backbone: nn.Module | None, neck: nn.Module | None) -> None:
    """Check that a backbone returns as many feature maps as the neck takes.

    Raises:
        ConfigError: It does not; names both settings.
    """
    returned, taken = getattr(backbone, 'out_indices', None), getattr(neck, 'in_channels', None)
    if not isinstance(returned, (list, tuple)) or not isinstance(taken, (list, tuple)):
        return
    if len(returned) != len(taken):
        raise ConfigError(
            f'model.backbone.out_indices={tuple(returned)} gives {len(returned)} feature maps, and '
            f'model.neck.in_channels={list(taken)} takes {len(taken)}; a ResNet gives four with '
            '(0, 1, 2, 3)'
        )


def expected_strides(model: nn.Module) -> Iterator[Expected]:
    """The strides that a detector's heads are set for."""
    for where, head in _parts(model, DENSE_HEADS):
        priors = next(filter(None, (getattr(head, name, None) for name in PRIORS)), None)
        strides = _as_numbers(getattr(priors, 'strides', None))
        if strides:
            yield Expected(f'the strides of {where}', strides, True)
    for where, extractor in _parts(getattr(model, 'roi_head', None), ROI_EXTRACTORS):
        strides = _as_numbers(getattr(extractor, 'featmap_strides', None))
        if strides:
            yield Expected(f'featmap_strides of {where}', strides, False)


def _as_numbers(strides: Any) -> list[int]:
    """Strides of equal height and width, each a power of two; empty for any others."""
    pairs = [s if isinstance(s, (list, tuple)) else (s, s) for s in strides or ()]
    usual = all(
        len(pair) == 2 and pair[0] == pair[1] and isinstance(pair[0], int) and pair[0] > 0
        for pair in pairs
    )
    return [pair[0] for pair in pairs] if usual and all(s & (s - 1) == 0 for s, _ in pairs) else []


def _parts(owner: nn.Module | None, names: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """(key in the config, module) of parts of a model, those in lists one by one."""
    prefix = 'model.roi_head.' if names is ROI_EXTRACTORS else 'model.'
    for name in names:
        part = getattr(owner, name, None)
        if isinstance(part, nn.ModuleList):
            yield from ((f'{prefix}{name}[{i}]', one) for i, one in enumerate(part))
        elif isinstance(part, nn.Module):
            yield prefix + name, part


def _zeros(backbone: nn.Module, side: int) -> Tensor:
    first = next(module for module in backbone.modules() if hasattr(module, 'kernel_size'))
    weight = next(backbone.parameters())
    return weight.new_zeros(1, first.in_channels, side, side)


@torch.no_grad()
def _features(module: nn.Module, inputs: Any) -> list[Tensor] | None:
    """What a part returns; None where it takes more than features, or returns something else."""
    training = module.training
    try:
        outputs = module.eval()(inputs)
    except Exception:  # it is not known what a stranger's part needs, and it will say so itself
        return None
    finally:
        module.train(training)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    return outputs if all(isinstance(output, Tensor) for output in outputs) else None


def _check_channels(setting: str, taken: Any, features: Sequence[Tensor]) -> None:
    given = [feature.shape[1] for feature in features]
    if isinstance(taken, (list, tuple)) and list(taken) != given:
        raise ConfigError(
            f'{setting} must be the channels of the features, {given}, got {list(taken)}; set it, '
            "or the backbone's depth, width or out_indices"
        )


def _check_segmentation_head(where: str, head: nn.Module, features: Sequence[Tensor]) -> None:
    index, taken = getattr(head, 'in_index', None), getattr(head, 'in_channels', None)
    if isinstance(index, int):
        index, taken = [index], [taken] if isinstance(taken, int) else None
    if not isinstance(index, (list, tuple)) or not isinstance(taken, (list, tuple)):
        return
    if any(not -len(features) <= i < len(features) for i in index):
        raise ConfigError(
            f'{where}.in_index={list(index)} must be of the {len(features)} feature maps that '
            "model.backbone gives; set it, or the backbone's out_indices"
        )
    _check_channels(f'{where}.in_channels', taken, [features[i] for i in index])


def _check_strides(head: Expected, found: Sequence[float], backbone: nn.Module) -> None:
    number = len(head.strides)
    seen = list(found) if head.takes_all else list(found)[:number]
    if seen == head.strides:
        return
    options = ', '.join(
        f'{name}={tuple(getattr(backbone, name))}'
        for name in ('strides', 'dilations', 'out_indices')
        if isinstance(getattr(backbone, name, None), (list, tuple))
    )
    strides = ', '.join(f'{stride:g}' for stride in seen) or 'nothing'
    raise ConfigError(
        f'{head.setting}, {head.strides}, must be those of the features that arrive there, '
        f'{strides}; set them, or those of model.backbone, which has {options or "fixed ones"} '
        '(_delete_=True in a backbone takes inherited ones away)'
    )


def _warn_of_unread_stages(backbone: nn.Module) -> None:
    stages, read = getattr(backbone, 'num_stages', None), getattr(backbone, 'out_indices', None)
    if isinstance(stages, int) and read and max(read) + 1 < stages:
        print_log(
            f'model.backbone computes and trains {stages} stages, of which nothing after stage '
            f'{max(read) + 1} is read (out_indices={tuple(read)}); num_stages={max(read) + 1} '
            'leaves the others out',
            logger='current',
            level=WARNING,
        )
