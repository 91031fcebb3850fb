"""Kernels of plain networks in dynamic ones ("inflation"), and back.

The kernels go into the start cells. For budgets of 1 and more the result is exactly the plain
network at temperature 1. Cells that no mixture starts from (budget > 1) and the attention branches
keep the values that the module was built with.

In a DY-Conv network the plain kernel becomes every one of the K kernels: since its attentions sum
to 1, the result is exactly the plain network. The other dynamic convolutions scale their kernels by
factors that no weights make 1.
"""

from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor, nn

from ..compared import DYConv2d, DynamicConv2d, FDConv2d
from ..errors import CheckpointError
from ..warehouse import KWLayer, kw_layers
from ..warehouse.warehouses import list_cells
from .layouts import Entries, LayoutNames, Translated, from_prefixes


def from_static(module: nn.Module, names: LayoutNames, entries: Entries) -> Translated:
    """A plain network's entries under our names, its kernels placed in the module's start cells.

    Raises:
        CheckpointError: The module has a budget below 1, or another start than one cell for each
            mixture.
    """
    layers = kw_layers(module)
    plain = _plain_keys(module, layers)
    found = max(
        (from_prefixes(names, entries, prefixes) for prefixes in names.static.values()),
        key=lambda renamed: len(plain & set(renamed.entries)),
    )
    if not plain & set(found.entries):
        return found  # another network: the caller says so
    _place_in_warehouses(module, layers, found.entries)
    _place_in_dynamic_convs(module, found.entries)
    return found


@torch.no_grad()
def start_kernel(layer: KWLayer) -> Tensor:
    """The plain kernel that a layer has at temperature 1; a mixture without start cell is zero."""
    cells, beta = list_cells(layer.cells, layer.warehouse.cell_size), layer.attention.beta
    mixtures = beta[:, : len(cells)].to(cells) @ cells.flatten(1)
    return layer.partition.to_kernel(mixtures.reshape(len(beta), *cells.shape[1:]))


def _plain_keys(module: nn.Module, layers: Mapping[str, KWLayer]) -> set[str]:
    own = {
        key
        for key in module.state_dict()
        if '.attention.' not in key and not key.startswith('warehouses.')
    }
    return (
        own
        | {f'{name}.weight' for name in layers}
        | {
            f'{name}.weight'
            for name, layer in module.named_modules()
            if isinstance(layer, FDConv2d)
        }
    )


def _place_in_warehouses(
    module: nn.Module, layers: Mapping[str, KWLayer], entries: MutableMapping[str, Tensor]
) -> None:
    if not layers:
        return
    _check_starts(module, layers)
    cells = {name: None for name in module.warehouses}
    for name, layer in layers.items():
        kernel = entries.get(f'{name}.weight')
        if kernel is not None and _fits(layer, kernel):
            values = layer.partition.to_cells(kernel.reshape(layer.partition.kernel_shape))
            cells[layer.warehouse_name] = layer.warehouse.with_cells(
                layer.start_cells, values, base=cells[layer.warehouse_name]
            )
            del entries[f'{name}.weight']
            entries.update(_attention_of(name, layer))
    for name, warehouse in module.warehouses.items():
        placed = warehouse.cells.detach().clone() if cells[name] is None else cells[name]
        entries[f'warehouses.{name}.cells'] = placed


def _check_starts(module: nn.Module, layers: Mapping[str, KWLayer]) -> None:
    for name, layer in layers.items():
        if layer.why_not_plain:
            raise CheckpointError(
                f'plain static weights cannot start this {type(module).__name__}: in layer '
                f'{name!r}, {layer.why_not_plain}; use KernelWarehouse weights, or '
                "start='one_to_one' with a budget of 1 or more"
            )


def _place_in_dynamic_convs(module: nn.Module, entries: MutableMapping[str, Tensor]) -> None:
    for name, layer in module.named_modules():
        if not isinstance(layer, DynamicConv2d) or isinstance(layer, FDConv2d):
            continue  # FDConv adapts what it loads by itself
        if not isinstance(layer, DYConv2d):
            raise CheckpointError(
                f'plain static weights cannot start this {type(module).__name__}: '
                f'{type(layer).__name__} scales every kernel, so it would not be the plain '
                'network; use weights of the same kind, or DYConv2d, whose attentions sum to 1'
            )
        kernel = entries.get(f'{name}.weight')
        if kernel is not None and kernel.shape == layer.weight.shape[1:]:
            entries[f'{name}.weight'] = kernel.expand_as(layer.weight)
            entries.update(_attention_of(name, layer))


def _fits(layer: KWLayer, kernel: Tensor) -> bool:
    shape = layer.partition.kernel_shape
    return tuple(kernel.shape) == shape or tuple(kernel.shape) + (1, 1) == shape


def _attention_of(name: str, layer: nn.Module) -> dict[str, Tensor]:
    """A layer's attention branch as it is: a plain network has none."""
    return {f'{name}.attention.{key}': value for key, value in layer.attention.state_dict().items()}
