"""Kernel partition (paper, Sec. 3.2): kernels are cut into equal cells, and back.

The mixtures of one kernel are ordered (spatial position, output block, input block), the input
block running fastest; this is the order of the published checkpoints. Cells are 1x1 in space, as
published, or larger.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

KernelShape = tuple[int, int, int, int]
CellShape = tuple[int, int]
CellSize = tuple[int, int]


def common_cell(kernel_shapes: Iterable[KernelShape], ratio: Sequence[float] = (1, 1)) -> CellShape:
    """The cell that all kernels sharing a warehouse can be cut into.

    Args:
        kernel_shapes: Shapes (C_out, C_in / groups, kh, kw), at least one.
        ratio: (output, input) share of the greatest common divisor that a cell takes; 1/2 of each
            halves the cells on both sides, as published for budgets below 1 on ResNets.

    Returns:
        tuple: (output, input) channels of a cell.

    Raises:
        ValueError: A ratio that does not give a whole number of channels dividing the common
            divisor.
    """
    outputs, inputs = list(zip(*kernel_shapes))[:2]
    return _share(math.gcd(*outputs), ratio[0]), _share(math.gcd(*inputs), ratio[1])


def _share(divisor: int, ratio: float) -> int:
    size = divisor * Fraction(ratio).limit_denominator(10_000)
    if size.denominator != 1 or size < 1 or divisor % size:
        raise ValueError(
            f'cell_ratio {ratio} of {divisor} channels is not a divisor of {divisor}; '
            f'try 1 or 1/k with k dividing {divisor}'
        )
    return int(size)


@dataclass(frozen=True)
class Partition:
    """How one kernel is cut into cells.

    Args:
        kernel_shape: (C_out, C_in / groups, kh, kw).
        cell_shape: (output, input) channels of a cell; each divides the kernel's.
        cell_size: (height, width) of a cell; each divides the kernel's. Published 1x1.

    Raises:
        ValueError: Cells that do not tile the kernel.
    """

    kernel_shape: KernelShape
    cell_shape: CellShape
    cell_size: CellSize = (1, 1)

    def __post_init__(self) -> None:
        cell = (*self.cell_shape, *self.cell_size)
        if any(whole % part for whole, part in zip(self.kernel_shape, cell)):
            raise ValueError(
                f'cells of shape {cell} do not tile a kernel of shape {self.kernel_shape}'
            )

    @property
    def rows_and_columns(self) -> tuple[int, int]:
        """Spatial positions of cells."""
        return self.kernel_shape[2] // self.cell_size[0], self.kernel_shape[3] // self.cell_size[1]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(spatial positions, output blocks, input blocks)."""
        out_channels, in_channels = self.kernel_shape[:2]
        return (
            math.prod(self.rows_and_columns),
            out_channels // self.cell_shape[0],
            in_channels // self.cell_shape[1],
        )

    @property
    def num_mixtures(self) -> int:
        """m, the number of mixtures that make up the kernel."""
        return math.prod(self.grid)

    def to_cells(self, kernel: Tensor) -> Tensor:
        """Cut a kernel.

        Args:
            kernel (Tensor): Shape (..., C_out, C_in / groups, kh, kw).

        Returns:
            Tensor: Shape (..., m, cell_out, cell_in, cell_h, cell_w).
        """
        batch = kernel.shape[:-4]
        (_, out_blocks, in_blocks), (rows, columns) = self.grid, self.rows_and_columns
        (cell_out, cell_in), (cell_h, cell_w) = self.cell_shape, self.cell_size
        blocks = kernel.reshape(
            -1, out_blocks, cell_out, in_blocks, cell_in, rows, cell_h, columns, cell_w
        )
        ordered = blocks.permute(0, 5, 7, 1, 3, 2, 4, 6, 8)
        return ordered.reshape(*batch, self.num_mixtures, *self.cell_shape, *self.cell_size)

    def to_kernel(self, mixtures: Tensor) -> Tensor:
        """Put the mixtures of a kernel back in order; the exact inverse of :meth:`to_cells`.

        Args:
            mixtures (Tensor): Shape (..., m, cell_out, cell_in, cell_h, cell_w).

        Returns:
            Tensor: Shape (..., C_out, C_in / groups, kh, kw).
        """
        batch = mixtures.shape[:-5]
        blocks = mixtures.reshape(
            -1, *self.rows_and_columns, *self.grid[1:], *self.cell_shape, *self.cell_size
        )
        return blocks.permute(0, 3, 5, 4, 6, 1, 7, 2, 8).reshape(*batch, *self.kernel_shape)

    def assemble(self, mixtures: Tensor) -> Tensor:
        """Put the mixtures of every image's kernel in order, as they come from the warehouse.

        Args:
            mixtures (Tensor): Shape (cell_out, B m, cell_in cell_h cell_w).

        Returns:
            Tensor: Shape (B, C_out, C_in / groups, kh, kw). Of 1x1 cells the input channels are
            fastest in memory: without a copy where a column of cells makes up the output channels,
            in a copy of whole rows of cells otherwise.
        """
        out_channels, in_channels, height, width = self.kernel_shape
        (cell_out, cell_in), cell_size = self.cell_shape, self.cell_size
        grid = (*self.rows_and_columns, *self.grid[1:])
        if cell_size != (1, 1):
            blocks = mixtures.reshape(cell_out, -1, *grid, cell_in, *cell_size)
            return blocks.permute(1, 4, 0, 5, 6, 2, 7, 3, 8).reshape(-1, *self.kernel_shape)
        blocks = mixtures.reshape(cell_out, -1, *grid, cell_in)
        # (B, out block, cell_out, y, x, in block, cell_in)
        rows = blocks.permute(1, 4, 0, 2, 3, 5, 6)
        return rows.reshape(-1, out_channels, height, width, in_channels).permute(0, 1, 4, 2, 3)
