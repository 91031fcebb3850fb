"""At temperature 1 a KernelWarehouse network is a plain one: its attention is beta, whatever the image."""

import torch
from torch import nn

from ..checkpoints.plain_kernels import start_kernel
from ..warehouse import KWConv2d, KWLayer, Warehouses, kw_layers


def make_static(model: nn.Module) -> int:
    """Replace, in place, every KW layer whose temperature is 1 by the plain layer that it equals.

    Other temperatures are left as they are: their kernels depend on the image. Warehouses whose
        layers are gone go, too.

    Returns:
        int: Number of layers replaced.
    """
    replaced = 0
    for owner in [
        module
        for module in model.modules()
        if isinstance(getattr(module, 'warehouses', None), Warehouses)
    ]:
        if float(owner.warehouses.temperature) == 1:
            layers = kw_layers(owner)
            for name, layer in layers.items():
                parent, _, child = name.rpartition('.')
                setattr(owner.get_submodule(parent), child, plain_layer(layer))
            owner.warehouses = nn.Identity()
            replaced += len(layers)
    return replaced


@torch.no_grad()
def plain_layer(layer: KWLayer) -> nn.Module:
    """The plain layer that a KW layer equals at temperature 1."""
    bias = layer.bias is not None
    if isinstance(layer, KWConv2d):
        plain = nn.Conv2d(
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
    plain.weight.copy_(start_kernel(layer).reshape(plain.weight.shape))
    if bias:
        plain.bias.copy_(layer.bias)
    return plain.to(layer.cells.device).train(layer.training)
