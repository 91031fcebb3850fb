"""ResNet with the dynamic convolutions that KernelWarehouse is compared with."""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ..compared import CondConv2d, DCDConv2d, DYConv2d
from .dynamic import Blocks, DynamicBackbone, conv_type
from .static_resnet import StaticResNet

CONDCONV_BLOCKS = (
    3  # with the classifier, the choice that gives the reported 81.35 M of ResNet-18 CondConv 8x
)


@MODELS.register_module()
class DynamicResNet(DynamicBackbone, StaticResNet):
    """ResNet whose convolutions are replaced by dynamic ones; by default those that give the published sizes.

    Static is the stem. Downsampling layers are dynamic for DY-Conv alone, and CondConv replaces the
    last three blocks' convolutions, those of a block sharing one routing.

    Args:
        depth: 18, 34, 50, 101 or 152.
        conv: Type and options of the convolution, e.g. ``dict(type='ODConv2d', num_kernels=4)``;
            types are 'DYConv2d', 'ODConv2d', 'CondConv2d' and 'DCDConv2d'.
        layers: Names of the convolutions to replace, if others than published.
        temperature: Softmax temperature to begin with, default 1; loaded weights and
            :class:`AttentionTemperatureHook` may change it.
        **kwargs: Everything else :class:`StaticResNet` takes (``out_indices``, ``frozen_stages``,
            ``norm_eval``, ``with_cp``, ``drop_path_rate``, ...).

    Raises:
        TypeError, ValueError: A bad depth, type or option; the message names one that works.

    Example:
        >>> backbone = DynamicResNet(depth=18, conv=dict(type='ODConv2d', num_kernels=4)).eval()
        >>> backbone(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 512, 2, 2])
    """

    def __init__(
        self,
        depth: int,
        conv: dict[str, Any],
        *,
        layers: Sequence[str] | None = None,
        temperature: float | None = None,
        **kwargs,
    ):
        layer = conv_type(conv)
        super().__init__(depth, **kwargs)
        if issubclass(layer, DCDConv2d):
            conv = (
                dict(pool_size=2 if depth < 50 else 1, **conv) if 'pool_size' not in conv else conv
            )
        blocks = resnet_blocks(self)
        self._put_convs(
            conv, blocks, published_layers(blocks, layer) if layers is None else layers, temperature
        )


def resnet_blocks(backbone: StaticResNet) -> dict[str, list[str]]:
    """``{block: [names of its convolutions]}`` in network order."""
    return {
        f'{stage}.{index}': [
            f'{stage}.{index}.{name}'
            for name, module in block.named_modules()
            if isinstance(module, nn.Conv2d)
        ]
        for stage in backbone.res_layers
        for index, block in enumerate(getattr(backbone, stage))
    }


def published_layers(blocks: Blocks, conv: type) -> list[str]:
    """Names of the layers whose replacement gives the published sizes."""
    chosen = list(blocks.values())
    if issubclass(conv, CondConv2d):
        chosen = chosen[-CONDCONV_BLOCKS:]
    names = [name for block in chosen for name in block]
    return (
        names
        if issubclass(conv, DYConv2d)
        else [name for name in names if '.downsample.' not in name]
    )
