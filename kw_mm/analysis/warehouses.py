"""How warehouses are laid out: the paper's Tables 14 (n and m) and 15 (which layers share)."""

from typing import NamedTuple

from torch import nn

from ..warehouse import kw_layers


class WarehouseRow(NamedTuple):
    """One warehouse.

    Args:
        name: Its name in the sharing plan.
        cell: (output, input, height, width) of a cell.
        num_mixtures: m_t, of all layers that draw on it.
        num_cells: n.
        layers: m of each of these layers, in network order.
    """

    name: str
    cell: tuple[int, int, int, int]
    num_mixtures: int
    num_cells: int
    layers: dict[str, int]


def describe_warehouses(model: nn.Module) -> list[WarehouseRow]:
    """All warehouses of a model, in the order of their plans; with the names of their layers in the model."""
    return [
        row
        for prefix, module in model.named_modules()
        if hasattr(module, 'warehouses')
        for row in _rows(f'{prefix}.' if prefix else '', module)
    ]


def _rows(prefix: str, module: nn.Module) -> list[WarehouseRow]:
    rows = []
    for name, warehouse in module.warehouses.items():
        layers = {
            prefix + key: layer.partition.num_mixtures
            for key, layer in kw_layers(module).items()
            if layer.warehouse_name == name
        }
        cell = (*warehouse.cell_shape, *warehouse.cell_size)
        rows.append(WarehouseRow(name, cell, sum(layers.values()), warehouse.num_cells, layers))
    return rows
