"""Plain static networks: their kernels go into the start cells ("inflation").

For budgets of 1 and more the result is exactly the plain network at temperature 1. Cells that no
mixture starts from (budget > 1) and the attention branches keep the values that the module was
built with.

In a DY-Conv network the plain kernel becomes every one of the K kernels: since its attentions sum
to 1, the result is exactly the plain network. The other dynamic convolutions scale their kernels by
factors that no weights make 1.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ..compared import DYConv2d, DynamicConv2d
from ..errors import CheckpointError
from ..warehouse import KWLayer, kw_layers
from ..warehouse.warehouses import store_cells
from .names import LayoutNames, Prefixes


def from_static(
    module: nn.Module, names: LayoutNames, entries: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """A plain network's entries under our names, kernels placed, and the keys that belong to another module.

    Raises:
        CheckpointError: The module has a budget below 1, or another start than one cell for each
            mixture.
    """
    layers = kw_layers(module)
    plain = _plain_keys(module, layers)
    used, foreign = max(
        (_renamed(names, prefixes, entries) for prefixes in names.static.values()),
        key=lambda renamed: len(plain & set(renamed[0])),
    )
    if not plain & set(used):
        return used, foreign  # another network: the caller says so
    _refuse_other_starts(module, layers)
    cells = (
        {name: warehouse.cells.detach().clone() for name, warehouse in module.warehouses.items()}
        if layers
        else {}
    )
    for name, layer in layers.items():
        kernel = used.get(f'{name}.weight')
        if kernel is not None and _fits(layer, kernel):
            kernel = used.pop(f'{name}.weight').reshape(layer.partition.kernel_shape)
            stored = cells[layer.warehouse_name]
            stored[:, layer.start_cells] = store_cells(layer.partition.to_cells(kernel)).to(stored)
            used.update(_unchanged(name, layer))
    used.update({f'warehouses.{name}.cells': value for name, value in cells.items()})
    _place_in_dynamic_convs(module, used)
    if layers:
        module.plain_start = True
    return used, foreign


def _plain_keys(module: nn.Module, layers: Mapping[str, KWLayer]) -> set:
    own = {
        key
        for key in module.state_dict()
        if '.attention.' not in key and not key.startswith('warehouses.')
    }
    return own | {f'{name}.weight' for name in layers}


def _renamed(
    names: LayoutNames, prefixes: Prefixes, entries: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    used, foreign = {}, []
    for key, value in entries.items():
        ours = names.rename(key, prefixes)
        if ours is None:
            foreign.append(key)
        else:
            used[ours] = value
    return used, foreign


def _refuse_other_starts(module: nn.Module, layers: Mapping[str, KWLayer]) -> None:
    for name, layer in layers.items():
        if layer.why_not_plain:
            raise CheckpointError(
                f'plain static weights cannot start this {type(module).__name__}: in layer {name!r}, '
                f"{layer.why_not_plain}; use KernelWarehouse weights, or start='one_to_one' with a budget of 1 or more"
            )


def _place_in_dynamic_convs(module: nn.Module, used: dict[str, Tensor]) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, DynamicConv2d):
            if not isinstance(layer, DYConv2d):
                raise CheckpointError(
                    f'plain static weights cannot start this {type(module).__name__}: {type(layer).__name__} scales every '
                    'kernel, so it would not be the plain network; use weights of the same kind, or DYConv2d, whose '
                    'attentions sum to 1'
                )
            kernel = used.get(f'{name}.weight')
            if kernel is not None and kernel.shape == layer.weight.shape[1:]:
                used[f'{name}.weight'] = kernel.expand_as(layer.weight)
                used.update(_unchanged(name, layer))


def _fits(layer: KWLayer, kernel: Tensor) -> bool:
    shape = layer.partition.kernel_shape
    return tuple(kernel.shape) == shape or tuple(kernel.shape) + (1, 1) == shape


def _unchanged(name: str, layer: nn.Module) -> dict[str, Tensor]:
    return {f'{name}.attention.{key}': value for key, value in layer.attention.state_dict().items()}
