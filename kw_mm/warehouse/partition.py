"""Kernel partition (paper, Sec. 3.2): kernels are cut into equal cells, and cells put back are the kernel.

The mixtures of one kernel are ordered (spatial position, output block, input block), the input block running
fastest; this is the order of the published checkpoints. Cells are 1x1 in space.
"""
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Iterable, Sequence, Tuple

from torch import Tensor

KernelShape = Tuple[int, int, int, int]
CellShape = Tuple[int, int]


def common_cell(kernel_shapes: Iterable[KernelShape], ratio: Sequence[float] = (1, 1)) -> CellShape:
    """The cell that all kernels sharing a warehouse can be cut into.

    Args:
        kernel_shapes: Shapes (C_out, C_in / groups, kh, kw), at least one.
        ratio: (output, input) share of the greatest common divisor that a cell takes; 1/2 of each halves the cells
            on both sides, as published for budgets below 1 on ResNets.

    Returns:
        tuple: (output, input) channels of a cell.

    Raises:
        ValueError: A ratio that does not give a whole number of channels dividing the common divisor.
    """
    divisors = [math.gcd(*channels) for channels in list(zip(*kernel_shapes))[:2]]
    return tuple(_share(divisor, share) for divisor, share in zip(divisors, ratio))


def _share(divisor: int, ratio: float) -> int:
    size = divisor * Fraction(ratio).limit_denominator(10_000)
    if size.denominator != 1 or size < 1 or divisor % size:
        raise ValueError(f'cell_ratio {ratio} of {divisor} channels is not a divisor of {divisor}; '
                         f'try 1 or 1/k with k dividing {divisor}')
    return int(size)


@dataclass(frozen=True)
class Partition:
    """How one kernel is cut into cells.

    Args:
        kernel_shape: (C_out, C_in / groups, kh, kw).
        cell_shape: (output, input) channels of a cell; each divides the kernel's.
    """
    kernel_shape: KernelShape
    cell_shape: CellShape

    def __post_init__(self):
        if self.kernel_shape[0] % self.cell_shape[0] or self.kernel_shape[1] % self.cell_shape[1]:
            raise ValueError(f'cells of {self.cell_shape} channels do not tile a kernel of shape {self.kernel_shape}')

    @property
    def grid(self) -> Tuple[int, int, int]:
        """(spatial positions, output blocks, input blocks)."""
        out_channels, in_channels, height, width = self.kernel_shape
        return height * width, out_channels // self.cell_shape[0], in_channels // self.cell_shape[1]

    @property
    def num_mixtures(self) -> int:
        """m, the number of mixtures that make up the kernel."""
        return math.prod(self.grid)

    def to_cells(self, kernel: Tensor) -> Tensor:
        """Cut a kernel.

        Args:
            kernel (Tensor): Shape (..., C_out, C_in / groups, kh, kw).

        Returns:
            Tensor: Shape (..., m, cell_out, cell_in, 1, 1).
        """
        batch = kernel.shape[:-4]
        (positions, out_blocks, in_blocks), (cell_out, cell_in) = self.grid, self.cell_shape
        blocks = kernel.reshape(-1, out_blocks, cell_out, in_blocks, cell_in, positions)
        return blocks.permute(0, 5, 1, 3, 2, 4).reshape(*batch, self.num_mixtures, cell_out, cell_in, 1, 1)

    def to_kernel(self, mixtures: Tensor) -> Tensor:
        """Put the mixtures of a kernel back in order; the exact inverse of :meth:`to_cells`.

        Args:
            mixtures (Tensor): Shape (..., m, cell_out, cell_in, 1, 1).

        Returns:
            Tensor: Shape (..., C_out, C_in / groups, kh, kw).
        """
        batch = mixtures.shape[:-5]
        blocks = mixtures.reshape(-1, *self.grid, *self.cell_shape)
        return blocks.permute(0, 2, 4, 3, 5, 1).reshape(*batch, *self.kernel_shape)

    def assemble(self, mixtures: Tensor, batch: int) -> Tensor:
        """Put the mixtures of every image's kernel in order, as they come from the warehouse.

        Args:
            mixtures (Tensor): Shape (cell_out, B m, cell_in).
            batch: B.

        Returns:
            Tensor: Shape (B, C_out, C_in / groups, kh, kw), input channels fastest in memory: without a copy where a
            column of cells makes up the output channels, in a copy of whole rows of cells otherwise.
        """
        out_channels, in_channels, height, width = self.kernel_shape
        blocks = mixtures.reshape(self.cell_shape[0], batch, *self.grid, self.cell_shape[1])
        rows = blocks.permute(1, 3, 0, 2, 4, 5)                    # (B, out block, cell_out, position, in block, cell_in)
        return rows.reshape(batch, out_channels, height, width, in_channels).permute(0, 1, 4, 2, 3)
