"""The layout of the published KernelWarehouse checkpoints.

Cells are ``warehouse_manager.weights.K``, warehouses counted in the order of their first layer; the
other keys are those of a torchvision-style network. Neither temperature nor beta is in such a file:
a module keeps its own.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ..warehouse.warehouses import store_cells
from .names import LayoutNames

CELLS = re.compile(r'warehouse_manager\.weights\.(\d+)$')
LAYER_SCALE = re.compile(r'stages\.\d+\.\d+\.gamma$')


def from_published(
    module: nn.Module, names: LayoutNames, entries: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Published entries under our names, and the keys that belong to another module of the network."""
    used, foreign = {}, []
    for key, value in entries.items():
        cells = CELLS.match(key)
        if cells:
            name = names.warehouses.get(int(cells.group(1)))
            ours = name and f'warehouses.{name}.cells'
            value = _stored(value)
        else:
            ours = names.rename(key, names.published)
        if ours is None:
            foreign.append(key)
        else:
            used[ours] = value
    return used, foreign


def _stored(value: Tensor) -> Tensor:
    """Published cells, (n, cell_out, cell_in, 1, 1) or one dimension less for a linear layer, as warehouses store them."""
    return store_cells(value) if 3 <= value.dim() <= 5 and value[0, 0, 0].numel() == 1 else value


def as_published(key: str, value: Tensor) -> Tensor:
    """A value in the shape it has in published files, of our key ``key``: a ConvNeXt's layer scale is (1, C, 1, 1)."""
    return value.reshape(1, -1, 1, 1) if LAYER_SCALE.match(key) else value
