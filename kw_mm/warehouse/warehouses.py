"""Warehouses: cells that the layers of a stage share, and the temperature that all of them obey."""

import math

import torch
from torch import Tensor, nn

from ..ops.mix import CellGradients
from ..ops.partition import CellShape, CellSize


def store_cells(cells: Tensor) -> Tensor:
    """Cells one after another, shape (n, cell_out, cell_in, cell_h, cell_w), in the order of a warehouse's parameter."""
    return cells.flatten(2).transpose(0, 1).contiguous()


def list_cells(stored: Tensor, cell_size: CellSize = (1, 1)) -> Tensor:
    """Cells in the order of a warehouse's parameter one after another; the inverse of :func:`store_cells`."""
    return stored.transpose(0, 1).unflatten(2, (-1, *cell_size)).contiguous()


class Warehouse(nn.Module):
    """The cells E = {e_1 ... e_n} that several layers draw on.

    Args:
        num_cells: n.
        cell_shape: (output, input) channels of a cell.
        cell_size: (height, width) of a cell; published 1x1.

    Attributes:
        cells (Parameter): Shape (cell_out, n, cell_in cell_h cell_w), the order in which
            :mod:`kw_mm.ops.mix` reads them.
        frozen_cells (Tensor, optional): A detached copy of the cells for layers frozen with
            ``freeze_warehouses='strict'``; saved in checkpoints. Where a checkpoint has none, it is
            made from the checkpoint's cells.
    """

    def __init__(self, num_cells: int, cell_shape: CellShape, cell_size: CellSize = (1, 1)):
        super().__init__()
        self.cells = nn.Parameter(
            torch.empty(cell_shape[0], num_cells, cell_shape[1] * math.prod(cell_size))
        )
        self.num_cells, self.cell_shape, self.cell_size = (
            num_cells,
            tuple(cell_shape),
            tuple(cell_size),
        )
        self.register_buffer('frozen_cells', None)
        self.gradients = CellGradients()

    @property
    def listed(self) -> Tensor:
        """Cells one after another, shape (n, cell_out, cell_in, cell_h, cell_w)."""
        return list_cells(self.cells, self.cell_size)

    def keep_frozen_copy(self) -> None:
        """Give the frozen layers cells that training cannot move."""
        if self.frozen_cells is None:
            self.frozen_cells = self.cells.detach().clone()

    @torch.no_grad()
    def write(self, index: Tensor, values: Tensor) -> None:
        """Set the cells ``index`` to ``values``, shape (len(index), cell_out, cell_in, ...), in every copy."""
        for cells in (self.cells, self.frozen_cells):
            if cells is not None:
                cells[:, index] = store_cells(values).to(cells)

    @torch.no_grad()
    def with_cells(self, index: Tensor, values: Tensor, base: Tensor | None = None) -> Tensor:
        """A copy of the parameter's tensor (or of ``base``) with the cells ``index`` set to ``values``.

        Args:
            index (Tensor): Numbers of cells.
            values (Tensor): Shape (len(index), cell_out, cell_in, cell_h, cell_w).
            base (Tensor, optional): What to start from, of the parameter's shape.
        """
        cells = (self.cells if base is None else base).detach().clone()
        cells[:, index] = store_cells(values).to(cells)
        return cells

    def _load_from_state_dict(self, state_dict, prefix, *args):
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
    """

    def __init__(self):
        super().__init__()
        self.register_buffer('temperature', torch.zeros(()))
        self.recompute_kernels = False
        self.keep_format = True

    def set_temperature(self, value: float) -> None:
        """Set tau in place.

        Raises:
            ValueError: A value outside [0, 1].
        """
        if not 0 <= value <= 1:
            raise ValueError(f'temperature={value} is outside [0, 1]')
        self.temperature.fill_(value)

    def store_cells_as(self, dtype: torch.dtype) -> 'Warehouses':
        """Store the cells, and mix them, in another dtype for inference; everything else stays as it is."""
        for warehouse in self.values():
            warehouse.cells.data = warehouse.cells.data.to(dtype)
            if warehouse.frozen_cells is not None:
                warehouse.frozen_cells = warehouse.frozen_cells.to(dtype)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The identity, so that a :class:`torch.nn.Sequential` can own warehouses as its last child."""
        return x


class HasTemperature:
    """Mixin for a module that owns :class:`Warehouses` as ``self.warehouses``."""

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
