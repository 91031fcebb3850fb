"""What a file holds: a part of a network, with plain layers where the temperature is 1."""

from collections.abc import Iterator
from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from torch import Tensor, nn

from ..errors import UserError
from ..warehouse import KWConv1d, KWConv2d, KWConv3d, KWLayer, Warehouses, kw_layers

PLAIN_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by dimensions
HEAD_OUTPUTS = ('cls_score', 'bbox_pred', 'centerness')


class BackbonePart(nn.Module):
    """Preprocessed images (B, 3, H, W) -> the backbone's feature maps.

    Args:
        model: A detector, segmentor or classifier with a backbone, or a backbone.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.backbone = getattr(model, 'backbone', model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.backbone(images)))

    def names(self, outputs: tuple[Tensor, ...]) -> list[str]:
        """One name for each output."""
        return [f'feature{i}' for i in range(len(outputs))]


class MapsPart(nn.Module):
    """Preprocessed images (B, 3, H, W) -> raw maps of a detector's dense head.

    Anchors and NMS come after them.

    Of a two-stage detector these are the pyramid's features and the maps of the RPN.

    Args:
        model: A detector.

    Raises:
        UserError: A model without a dense head that can run on features only.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.two_stages = isinstance(model, TwoStageDetector)
        if not (isinstance(model, SingleStageDetector) or self.two_stages and model.with_rpn):
            raise UserError(
                f'a {type(model).__name__} has no dense head whose raw maps a file could hold; '
                'single-stage detectors and those with an RPN have one, and --part backbone always '
                'works'
            )
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head = model.rpn_head if self.two_stages else model.bbox_head

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.neck(self.backbone(images))
        maps = tuple(_tensors(self.head(features)))
        return (*features, *maps) if self.two_stages else maps

    def names(self, outputs: tuple[Tensor, ...]) -> list[str]:
        """One name for each output: feature0 ..., cls_score0 ..., bbox_pred0 ..."""
        levels = (
            self.head.prior_generator.num_levels if hasattr(self.head, 'prior_generator') else 1
        )
        features = levels if self.two_stages else 0
        kinds = (len(outputs) - features) // levels
        centred = any('centerness' in name for name, _ in self.head.named_children())
        heads = (
            HEAD_OUTPUTS
            if kinds == (3 if centred else 2)
            else [f'output{i}_' for i in range(kinds)]
        )
        prefix = 'rpn_' if self.two_stages else ''
        names = [f'feature{i}' for i in range(features)]
        return names + [
            f'{prefix}{head}{level}' for head in heads[:kinds] for level in range(levels)
        ]


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples and lists, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for output in outputs:
            yield from _tensors(output)


def make_static(model: nn.Module) -> int:
    """Replace, in place, the KW layers of networks whose kernels are the same for every image.

    They are at temperature 1, and before the first step from plain weights. Else all layers stay as
    they are. Warehouses whose layers are gone go, too.

    Returns:
        int: Number of layers replaced.
    """
    replaced = 0
    for owner in [
        module
        for module in model.modules()
        if isinstance(getattr(module, 'warehouses', None), Warehouses)
    ]:
        layers = kw_layers(owner)
        temperature = owner.warehouses.temperature
        if all(layer.attention.constant(temperature) is not None for layer in layers.values()):
            for name, layer in layers.items():
                parent, _, child = name.rpartition('.')
                setattr(owner.get_submodule(parent), child, plain_layer(layer))
            owner.warehouses = nn.Identity()
            replaced += len(layers)
    return replaced


@torch.no_grad()
def plain_layer(layer: KWLayer) -> nn.Module:
    """The plain layer that a KW layer equals whose kernel is the same for every image."""
    bias = layer.bias is not None
    if isinstance(layer, (KWConv1d, KWConv2d, KWConv3d)):
        plain = PLAIN_CONVS[len(layer.kernel_size)](
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            bias,
        )
    else:
        plain = nn.Linear(layer.in_features, layer.out_features, bias)
    plain = plain.to(layer.attention.fc1.weight)  # cells may be stored in lower precision
    plain.weight.copy_(layer.plain_kernel.reshape(plain.weight.shape))
    if bias:
        plain.bias.copy_(layer.bias)
    return plain.train(layer.training)
