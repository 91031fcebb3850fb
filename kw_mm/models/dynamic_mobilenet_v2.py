"""MobileNetV2 with the dynamic convolutions that KernelWarehouse is compared with."""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ..compared import CondConv2d, DCDConv2d
from .dynamic import Blocks, DynamicBackbone, conv_type
from .static_mobilenet_v2 import StaticMobileNetV2

CONDCONV_BLOCKS = 6  # our reading of CondConv; we know no published file to check it against
LAST = 'conv2'


@MODELS.register_module()
class DynamicMobileNetV2(DynamicBackbone, StaticMobileNetV2):
    """MobileNetV2 whose convolutions are replaced by dynamic ones.

    By default DY-Conv and ODConv (as published) replace all but the stem. CondConv replaces the
    last six blocks' convolutions, those of a block sharing one routing. DCD replaces the pointwise
    convolutions of the blocks; their latent sizes are those of DCD's ResNets here, not of its
    MobileNetV2.

    Args:
        widen_factor: Width multiplier.
        conv, layers, temperature: As in :class:`DynamicResNet`.
        **kwargs: Everything else :class:`StaticMobileNetV2` takes.

    Raises:
        TypeError, ValueError: A bad type or option; the message names one that works.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        conv: dict[str, Any] | None = None,
        *,
        layers: Sequence[str] | None = None,
        temperature: float | None = None,
        **kwargs,
    ):
        layer = conv_type(conv)
        super().__init__(widen_factor, **kwargs)
        blocks = mobilenet_v2_blocks(self)
        chosen = default_layers(self, blocks, layer) if layers is None else layers
        self._put_convs(conv, blocks, chosen, temperature)


def mobilenet_v2_blocks(backbone: StaticMobileNetV2) -> dict[str, list[str]]:
    """``{block: [names of its convolutions]}`` in network order; the last convolution is a block of its own."""
    blocks = {
        f'layer{group}.{index}': block
        for group in range(1, len(backbone.arch_settings) + 1)
        for index, block in enumerate(getattr(backbone, f'layer{group}'))
    }
    return {
        name: [
            f'{name}.{child}'
            for child, module in block.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        for name, block in {**blocks, LAST: getattr(backbone, LAST)}.items()
    }


def default_layers(backbone: nn.Module, blocks: Blocks, conv: type) -> list[str]:
    """Names of the layers that a dynamic convolution replaces by default."""
    residual = [names for block, names in blocks.items() if block != LAST]
    if issubclass(conv, CondConv2d):
        return [name for names in residual[-CONDCONV_BLOCKS:] for name in names]
    if issubclass(conv, DCDConv2d):
        return [
            name for names in residual for name in names if backbone.get_submodule(name).groups == 1
        ]
    return [name for names in blocks.values() for name in names]
