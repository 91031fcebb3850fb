"""Warehouses: cells that the layers of a stage share, and the temperature that all of them obey."""

import logging
import math
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.mix import CellGradients, SharedCells
from ..ops.partition import CellShape, CellSize

# What is logged here reaches mmengine's log where OpenMMLab is installed.
logger = logging.getLogger('kw_mm')


def store_cells(cells: Tensor) -> Tensor:
    """Cells as a warehouse's parameter holds them.

    Args:
        cells (Tensor): Shape (n, cell_out, cell_in, cell_h, cell_w), or without trailing ones.

    Returns:
        Tensor: Shape (n, cell_out, cell_in cell_h cell_w), in the memory order
        (cell_out, n, cell_in), the one in which :mod:`kw_mm.ops.mix` reads them.
    """
    return cells.flatten(2).transpose(0, 1).contiguous().transpose(0, 1)


def list_cells(stored: Tensor, cell_size: CellSize = (1, 1)) -> Tensor:
    """Cells one after another in memory, shape (n, cell_out, cell_in, cell_h, cell_w)."""
    listed: Tensor = stored.unflatten(2, (-1, *cell_size))
    return listed.contiguous()


class Warehouse(nn.Module):
    """The cells E = {e_1 ... e_n} that several layers draw on.

    Args:
        num_cells: n.
        cell_shape: (output, input) channels of a cell.
        cell_size: (height, width) of a cell; published 1x1.

    Attributes:
        cells (Parameter): Shape (n, cell_out, cell_in cell_h cell_w), as published; in memory the
            output channels run slowest, see :func:`store_cells`.
        frozen_cells (Tensor, optional): A detached copy of the cells for layers frozen with
            ``freeze_warehouses='strict'``; saved in checkpoints. Where a checkpoint has none, it is
            made from the checkpoint's cells.
    """

    frozen_cells: Tensor | None

    def __init__(self, num_cells: int, cell_shape: CellShape, cell_size: CellSize = (1, 1)):
        super().__init__()
        cells = torch.empty(num_cells, cell_shape[0], cell_shape[1] * math.prod(cell_size))
        self.cells = nn.Parameter(store_cells(cells))
        self.num_cells, self.cell_shape, self.cell_size = num_cells, cell_shape, cell_size
        self.register_buffer('frozen_cells', None)
        self.gradients = CellGradients()

    @property
    def listed(self) -> Tensor:
        """Cells one after another, shape (n, cell_out, cell_in, cell_h, cell_w)."""
        return list_cells(self.cells, self.cell_size)

    def shared(self, frozen: bool = False) -> SharedCells:
        """What a layer mixes: the cells, or their frozen copy."""
        if frozen and self.frozen_cells is not None:
            return SharedCells(self.frozen_cells)
        return SharedCells(self.cells, self.gradients)

    def keep_frozen_copy(self) -> None:
        """Give the frozen layers cells that training cannot move."""
        if self.frozen_cells is None:
            self.frozen_cells = self.cells.detach().clone()

    @torch.no_grad()
    def write(self, index: Tensor, values: Tensor) -> None:
        """Set cells, in every copy.

        Args:
            index (Tensor): Numbers of the cells.
            values (Tensor): Shape (len(index), cell_out, cell_in, cell_h, cell_w).
        """
        for cells in (self.cells, self.frozen_cells):
            if cells is not None:
                cells[index] = values.flatten(2).to(cells)

    def with_cells(self, index: Tensor, values: Tensor, base: Tensor | None = None) -> Tensor:
        """A copy of the cells in which some are set; the warehouse stays as it is.

        Args:
            index, values: As in :meth:`write`.
            base (Tensor, optional): What to copy instead of the warehouse's own cells.

        Returns:
            Tensor: In shape and memory order those of ``cells``.
        """
        copy = (self.cells if base is None else base).detach().clone()
        copy[index] = values.flatten(2).to(copy)
        return copy

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any
    ) -> None:
        source, copy = prefix + 'cells', prefix + 'frozen_cells'
        if self.frozen_cells is not None and source in state_dict:
            state_dict.setdefault(copy, state_dict[source])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f'num_cells={self.num_cells}, cell_shape={self.cell_shape}'


class Warehouses(nn.ModuleDict):
    """All warehouses of a network, by name, and its temperature.

    Attributes:
        temperature (Tensor): tau in [0, 1], a scalar buffer, so that it is saved and moves with the
            model.
        recompute_kernels (bool): Whether layers mix their kernels again in the backward pass
            instead of keeping them.
        keep_format (bool): Whether every layer's result is contiguous where its input is. A network
            that sees to that at its end can do without: a single image is faster in the order of
            its kernels, channels-last.
        loaded_old_order (bool): Whether the last state dict loaded had the cells of kw_mm 0.1.
    """

    temperature: Tensor

    # Version 1, kw_mm 0.1, had cells of shape (cell_out, n, cell_in).
    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('temperature', torch.zeros(()))
        self.recompute_kernels = False
        self.keep_format = True
        self.loaded_old_order = False

    def by_name(self) -> dict[str, Warehouse]:
        """The warehouses by name, in the order of the plan."""
        return dict(self.items())  # type: ignore[arg-type]

    def set_temperature(self, value: float) -> None:
        """Set tau in place.

        Raises:
            ValueError: A value outside [0, 1].
        """
        if not 0 <= value <= 1:
            raise ValueError(f'temperature must be in [0, 1], got {value}')
        self.temperature.fill_(value)

    def store_cells_as(self, dtype: torch.dtype) -> 'Warehouses':
        """Store the cells, and mix them, in another dtype for inference; nothing else."""
        for warehouse in self.by_name().values():
            warehouse.cells.data = warehouse.cells.data.to(dtype)
            if warehouse.frozen_cells is not None:
                warehouse.frozen_cells = warehouse.frozen_cells.to(dtype)
        return self

    def reorder_old_cells(
        self, state_dict: MutableMapping[str, Any], prefix: str, version: int | None
    ) -> bool:
        """Bring the cells of a state dict of kw_mm 0.1 into their present shape, in place.

        It had (cell_out, n, cell_in) where now, as published, it is (n, cell_out, cell_in). Where
        every warehouse has as many cells as output channels, only the version tells; cells that
        were reordered before are known by their strides.

        Args:
            state_dict: Tensors by name.
            prefix: Of this module's keys.
            version: This module's version when they were saved, if known.

        Returns:
            bool: Whether it was such a state dict.
        """
        own: dict[str, tuple[int, ...]] = {
            f'{prefix}{name}.{kind}': tuple(warehouse.cells.shape)
            for name, warehouse in self.by_name().items()
            for kind in ('cells', 'frozen_cells')
            if f'{prefix}{name}.{kind}' in state_dict
        }
        turned = {key: (shape[1], shape[0], *shape[2:]) for key, shape in own.items()}
        found = {key: state_dict[key] for key in own}
        if any(tuple(value.shape) != turned[key] for key, value in found.items()):
            return False
        by_shape = any(turned[key] != shape for key, shape in own.items())
        contiguous = all(value.is_contiguous() for value in found.values())
        if not by_shape and not (version == 1 and contiguous):
            return False
        state_dict.update({key: value.transpose(0, 1) for key, value in found.items()})
        return bool(found)

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
    ) -> None:
        old = self.reorder_old_cells(state_dict, prefix, local_metadata.get('version'))
        self.loaded_old_order = old
        if old:
            logger.info('cells in the order of kw_mm 0.1 were brought into the published order')
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, x: Tensor) -> Tensor:
        """The identity, so that a :class:`torch.nn.Sequential` can own warehouses as a child."""
        return x


class HasTemperature:
    """Mixin for a module that owns :class:`Warehouses` as ``self.warehouses``."""

    warehouses: Warehouses

    @property
    def temperature(self) -> Tensor:
        """tau, a scalar tensor."""
        return self.warehouses.temperature

    def set_temperature(self, value: float) -> None:
        """Set tau of every KW layer of this module.

        Raises:
            ValueError: A value outside [0, 1].
        """
        self.warehouses.set_temperature(value)
