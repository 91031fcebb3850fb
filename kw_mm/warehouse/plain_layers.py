"""Plain layers that a network has, and that can draw on a warehouse."""

import math

from torch import nn

from ..ops.partition import KernelShape
from ..validation import closest

PlainLayer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
PLAIN_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def find_layer(module: nn.Module, name: str) -> PlainLayer:
    """The planned layer of a name.

    Raises:
        ValueError: No such layer, or one that cannot be a KW layer.
    """
    layers = dict(module.named_modules())
    if name not in layers:
        usable = [key for key, layer in layers.items() if isinstance(layer, PLAIN_LAYERS)]
        close = closest(name, usable, cutoff=0.6) or usable[:3]
        raise ValueError(
            f'the plan names a layer {name!r} that is not in {type(module).__name__}; '
            f'there are for example {", ".join(close) or "no layers at all"}'
        )
    layer = layers[name]
    if not isinstance(layer, PLAIN_LAYERS):
        raise ValueError(
            f'layer {name!r} is a {type(layer).__name__}; only Conv1d, Conv2d, Conv3d and Linear '
            'can draw on a warehouse'
        )
    if getattr(layer, 'padding_mode', 'zeros') != 'zeros':
        raise ValueError(
            f"layer {name!r} has padding_mode={layer.padding_mode!r}; only 'zeros' is supported"
        )
    return layer


def kernel_shape(layer: PlainLayer) -> KernelShape:
    """(C_out, C_in / groups, kh, kw) of a plain layer.

    A linear one counts as a 1x1 convolution; kernels of one dimension have a height of 1, and of
    those of three the depth and height are one dimension.
    """
    out_channels, in_channels, *size = layer.weight.shape
    *heights, width = size or (1,)
    return out_channels, in_channels, math.prod(heights), width
