"""Mixing, w_i = sum_j alpha_ij e_j, as one product that writes where a convolution reads.

Row (image, mixture i) and column (cell row, cell column) of the product belong to the kernel's
element W[image, output channel, input channel, y, x], whose address is a sum of one part for the
row and one for the column. So neither a permuted copy nor a second launch is needed, and the same
address serves both gradients:

    mix        W      = alpha . E       K = n
    by_rows    dalpha = dW . E^T        K = cell_out cell_in, long: split, then added up
    by_cells   dE     = alpha^T . dW    K = B m, into a sum in float32

Only for cells of 1x1. Cells are read in any strides with adjacent input channels.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..backends.cuda_limits import FEW_COLUMNS, MIXING_COLUMNS, MIXING_DEPTH, MIXING_ROWS
from ..float32 import is_exact, product_precision
from .launching import VARYING, blocks, launch, power_of_two, splits_for, summed


@triton.jit
def _row_addresses(
    row, rows, mixtures, across, out_blocks, in_blocks, step_b, step_o, step_i, step_y, step_x
):
    """Where the mixtures of rows (image, spatial position, output block, input block) begin."""
    row = tl.minimum(row, rows - 1)
    image = row // mixtures
    mixture = row % mixtures
    in_block = mixture % in_blocks
    rest = mixture // in_blocks
    out_block = rest % out_blocks
    position = rest // out_blocks
    return (
        image.to(tl.int64) * step_b
        + out_block * step_o
        + in_block * step_i
        + (position // across) * step_y
        + (position % across) * step_x
    )


@triton.jit
def _columns(number, cell_out, cell_in, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Cell rows and cell columns of a block, and whether they exist."""
    wide_blocks = tl.cdiv(cell_in, WIDE)
    place = tl.arange(0, HIGH * WIDE)
    r = (number // wide_blocks) * HIGH + place // WIDE
    c = (number % wide_blocks) * WIDE + place % WIDE
    return r, c, (r < cell_out) & (c < cell_in)


@triton.jit(do_not_specialize=VARYING)
def _mix_kernel(
    alpha,
    cells,
    out,
    rows,
    count,
    cell_out,
    cell_in,
    mixtures,
    across,
    out_blocks,
    in_blocks,
    cell_step,
    cell_row_step,
    step_b,
    step_o,
    step_i,
    step_y,
    step_x,
    ROWS: tl.constexpr,
    DEEP: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # neighbouring programs read the same cells
    row_blocks = tl.cdiv(rows, ROWS)
    row = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)
    r, c, exists = _columns(tl.program_id(0) // row_blocks, cell_out, cell_in, HIGH, WIDE)
    dtype = out.dtype.element_ty
    total = tl.zeros((ROWS, HIGH * WIDE), tl.float32)
    weights = alpha + tl.minimum(row, rows - 1)[:, None] * count
    values = cells + (r * cell_row_step + c)[None, :]
    for first in range(0, count, DEEP):
        j = first + tl.arange(0, DEEP)
        there = j < count
        j = tl.minimum(j, count - 1)
        a = tl.load(weights + j[None, :], mask=(row < rows)[:, None] & there[None, :], other=0.0)
        e = tl.load(
            values + j[:, None] * cell_step, mask=there[:, None] & exists[None, :], other=0.0
        )
        total = tl.dot(a.to(dtype), e.to(dtype), total, input_precision=PRECISION)
    begin = _row_addresses(
        row,
        rows,
        mixtures,
        across,
        out_blocks,
        in_blocks,
        step_b,
        cell_out * step_o,
        cell_in * step_i,
        step_y,
        step_x,
    )
    tl.store(
        out + begin[:, None] + (r * step_o + c * step_i)[None, :],
        total.to(dtype),
        mask=(row < rows)[:, None] & exists[None, :],
    )


@triton.jit(do_not_specialize=VARYING)
def _by_rows_kernel(
    grad,
    cells,
    out,
    rows,
    count,
    cell_out,
    cell_in,
    mixtures,
    across,
    out_blocks,
    in_blocks,
    cell_step,
    cell_row_step,
    step_b,
    step_o,
    step_i,
    step_y,
    step_x,
    blocks_each,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_blocks = tl.cdiv(rows, ROWS)
    row = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) // row_blocks) * CELLS + tl.arange(0, CELLS)
    part = tl.program_id(1)
    begin = _row_addresses(
        row,
        rows,
        mixtures,
        across,
        out_blocks,
        in_blocks,
        step_b,
        cell_out * step_o,
        cell_in * step_i,
        step_y,
        step_x,
    )
    here, there = row < rows, j < count
    values = cells + (tl.minimum(j, count - 1) * cell_step)[:, None]
    number_of_blocks = tl.cdiv(cell_out, HIGH) * tl.cdiv(cell_in, WIDE)
    last = tl.minimum((part + 1) * blocks_each, number_of_blocks)
    total = tl.zeros((ROWS, CELLS), tl.float32)
    for number in range(part * blocks_each, last):
        r, c, exists = _columns(number, cell_out, cell_in, HIGH, WIDE)
        g = tl.load(
            grad + begin[:, None] + (r * step_o + c * step_i)[None, :],
            mask=here[:, None] & exists[None, :],
            other=0.0,
        )
        e = tl.load(
            values + (r * cell_row_step + c)[None, :],
            mask=there[:, None] & exists[None, :],
            other=0.0,
        )
        total = tl.dot(g, tl.trans(e.to(g.dtype)), total, input_precision=PRECISION)
    tl.store(
        out + part.to(tl.int64) * rows * count + row[:, None] * count + j[None, :],
        total,
        mask=here[:, None] & there[None, :],
    )


@triton.jit(do_not_specialize=VARYING)
def _by_cells_kernel(
    alpha,
    grad,
    out,
    rows,
    count,
    cell_out,
    cell_in,
    mixtures,
    across,
    out_blocks,
    in_blocks,
    step_b,
    step_o,
    step_i,
    step_y,
    step_x,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    cell_blocks = tl.cdiv(count, CELLS)
    j = (tl.program_id(0) % cell_blocks) * CELLS + tl.arange(0, CELLS)
    r, c, exists = _columns(tl.program_id(0) // cell_blocks, cell_out, cell_in, HIGH, WIDE)
    there = j < count
    weights = alpha + tl.minimum(j, count - 1)[:, None]
    values = grad + (r * step_o + c * step_i)[None, :]
    total = tl.zeros((CELLS, HIGH * WIDE), tl.float32)
    for first in range(0, rows, ROWS):
        row = first + tl.arange(0, ROWS)
        here = row < rows
        begin = _row_addresses(
            row,
            rows,
            mixtures,
            across,
            out_blocks,
            in_blocks,
            step_b,
            cell_out * step_o,
            cell_in * step_i,
            step_y,
            step_x,
        )
        a = tl.load(
            weights + tl.minimum(row, rows - 1)[None, :] * count,
            mask=there[:, None] & here[None, :],
            other=0.0,
        )
        g = tl.load(values + begin[:, None], mask=here[:, None] & exists[None, :], other=0.0)
        total = tl.dot(a.to(g.dtype), g, total, input_precision=PRECISION)
    # in the memory order of cells: (cell_out, n, cell_in)
    place = out + j[:, None] * cell_in + (r * count * cell_in + c)[None, :]
    mask = there[:, None] & exists[None, :]
    if ADDS:
        total += tl.load(place, mask=mask, other=0.0)
    tl.store(place, total, mask=mask)


def _sizes(cut: Sequence[int]) -> tuple[int, ...]:
    """(m, cells across, output blocks, input blocks) of a ``cut`` as :func:`mix` takes it."""
    out_channels, in_channels, height, width, cell_out, cell_in = cut
    out_blocks, in_blocks = out_channels // cell_out, in_channels // cell_in
    return height * width * out_blocks * in_blocks, width, out_blocks, in_blocks


def _block_of_cell(cell_in: int, dtype: torch.dtype) -> dict[str, int]:
    few = is_exact(dtype) or cell_in < MIXING_COLUMNS
    columns = FEW_COLUMNS if few else MIXING_COLUMNS
    wide = power_of_two(cell_in, least=1, most=columns)
    return dict(HIGH=columns // wide, WIDE=wide)


def _column_blocks(cell_out: int, cell_in: int, block: dict[str, int]) -> int:
    return blocks(cell_out, block['HIGH']) * blocks(cell_in, block['WIDE'])


def _launch_mix(alpha: Tensor, cells: Tensor, out: Tensor, cut: Sequence[int]) -> None:
    mixtures, *grid = _sizes(cut)
    rows, count = alpha.shape
    _, cell_out, cell_in = cells.shape
    block = _block_of_cell(cell_in, out.dtype)
    step_b, step_o, step_y, step_x, step_i = out.stride()
    row_block = power_of_two(rows, most=MIXING_ROWS)
    programs = blocks(rows, row_block) * _column_blocks(cell_out, cell_in, block)
    launch(
        _mix_kernel,
        (programs,),
        alpha,
        cells,
        out,
        rows,
        count,
        cell_out,
        cell_in,
        mixtures,
        *grid,
        cells.stride(0),
        cells.stride(1),
        step_b,
        step_o,
        step_i,
        step_y,
        step_x,
        ROWS=row_block,
        DEEP=power_of_two(count, most=MIXING_DEPTH),
        **block,
        PRECISION=product_precision(),
    )


def run_mix(alpha: Tensor, cells: Tensor, cut: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Mix cells into kernels.

    Args:
        alpha (Tensor): Attention of every mixture of every image, shape (B m, n), float32.
        cells (Tensor): Shape (n, cell_out, cell_in), of any dtype that products have.
        cut: (C_out, C_in / groups, kh, kw, cell_out, cell_in).
        dtype: That is computed in, with sums in float32.

    Returns:
        Tensor: Shape (B, C_out, kh, kw, C_in / groups), contiguous.
    """
    out = _empty_kernels(alpha, cut, dtype)
    _launch_mix(alpha.contiguous(), _readable(cells), out, cut)
    return out


def _empty_kernels(alpha: Tensor, cut: Sequence[int], dtype: torch.dtype) -> Tensor:
    out_channels, in_channels, height, width = cut[:4]
    batch = alpha.shape[0] // _sizes(cut)[0]
    return alpha.new_empty((batch, out_channels, height, width, in_channels), dtype=dtype)


def _readable(cells: Tensor) -> Tensor:
    return cells if cells.stride(2) == 1 or cells.shape[2] == 1 else cells.contiguous()


mix = torch.library.custom_op(
    'kw_mm::mix',
    run_mix,
    mutates_args=(),
    schema='(Tensor alpha, Tensor cells, int[] cut, ScalarType dtype) -> Tensor',
)


@mix.register_fake
def _(alpha: Tensor, cells: Tensor, cut: Sequence[int], dtype: torch.dtype) -> Tensor:
    return _empty_kernels(alpha, cut, dtype)


def run_mix_by_rows(grad: Tensor, cells: Tensor, cut: Sequence[int]) -> Tensor:
    """The attention's gradient, shape (B m, n), float32.

    Args:
        grad (Tensor): The kernels', shape (B, C_out, kh, kw, C_in / groups), of any strides.
        cells, cut: As in :func:`mix`.
    """
    mixtures, *grid = _sizes(cut)
    cells = _readable(cells)
    count, cell_out, cell_in = cells.shape
    rows = grad.shape[0] * mixtures
    block = _block_of_cell(cell_in, grad.dtype)
    step_b, step_o, step_y, step_x, step_i = grad.stride()
    row_block = power_of_two(rows, most=MIXING_ROWS)
    cell_block = power_of_two(count, most=MIXING_ROWS)
    column_blocks = _column_blocks(cell_out, cell_in, block)
    programs = blocks(rows, row_block) * blocks(count, cell_block)
    splits = splits_for(programs, column_blocks, grad.device)
    each = blocks(column_blocks, splits)
    splits = blocks(column_blocks, each)
    parts = grad.new_empty((splits, rows, count), dtype=torch.float32)
    launch(
        _by_rows_kernel,
        (programs, splits),
        grad,
        cells,
        parts,
        rows,
        count,
        cell_out,
        cell_in,
        mixtures,
        *grid,
        cells.stride(0),
        cells.stride(1),
        step_b,
        step_o,
        step_i,
        step_y,
        step_x,
        each,
        ROWS=row_block,
        CELLS=cell_block,
        **block,
        PRECISION=product_precision(),
    )
    return summed(parts, torch.float32)


mix_by_rows = torch.library.custom_op(
    'kw_mm::mix_by_rows',
    run_mix_by_rows,
    mutates_args=(),
    schema='(Tensor grad, Tensor cells, int[] cut) -> Tensor',
)


@mix_by_rows.register_fake
def _(grad: Tensor, cells: Tensor, cut: Sequence[int]) -> Tensor:
    return grad.new_empty((grad.shape[0] * _sizes(cut)[0], cells.shape[0]), dtype=torch.float32)


def _launch_by_cells(
    alpha: Tensor, grad: Tensor, out: Tensor, cut: Sequence[int], adds: bool
) -> None:
    mixtures, *grid = _sizes(cut)
    cell_out, count, cell_in = out.shape
    block = _block_of_cell(cell_in, grad.dtype)
    step_b, step_o, step_y, step_x, step_i = grad.stride()
    cell_block = power_of_two(count, most=MIXING_ROWS)
    programs = blocks(count, cell_block) * _column_blocks(cell_out, cell_in, block)
    launch(
        _by_cells_kernel,
        (programs,),
        alpha.contiguous(),
        grad,
        out,
        alpha.shape[0],
        count,
        cell_out,
        cell_in,
        mixtures,
        *grid,
        step_b,
        step_o,
        step_i,
        step_y,
        step_x,
        ADDS=adds,
        ROWS=power_of_two(alpha.shape[0], most=MIXING_DEPTH),
        CELLS=cell_block,
        **block,
        PRECISION=product_precision(),
    )


def run_mix_by_cells(alpha: Tensor, grad: Tensor, cut: Sequence[int]) -> Tensor:
    """The cells' gradient, shape (cell_out, n, cell_in), float32.

    Args:
        alpha, cut: As in :func:`mix`.
        grad (Tensor): As in :func:`mix_by_rows`.
    """
    out = _empty_sum(alpha, cut)
    _launch_by_cells(alpha, grad, out, cut, adds=False)
    return out


def _empty_sum(alpha: Tensor, cut: Sequence[int]) -> Tensor:
    return alpha.new_empty((cut[4], alpha.shape[1], cut[5]), dtype=torch.float32)


mix_by_cells = torch.library.custom_op(
    'kw_mm::mix_by_cells',
    run_mix_by_cells,
    mutates_args=(),
    schema='(Tensor alpha, Tensor grad, int[] cut) -> Tensor',
)


@mix_by_cells.register_fake
def _(alpha: Tensor, grad: Tensor, cut: Sequence[int]) -> Tensor:
    return _empty_sum(alpha, cut)


def run_add_mix_by_cells(total: Tensor, alpha: Tensor, grad: Tensor, cut: Sequence[int]) -> None:
    """Add what :func:`mix_by_cells` returns to a sum of the same shape, in place."""
    _launch_by_cells(alpha, grad, total, cut, adds=True)


add_mix_by_cells = torch.library.custom_op(
    'kw_mm::add_mix_by_cells',
    run_add_mix_by_cells,
    mutates_args={'total'},
    schema='(Tensor(a!) total, Tensor alpha, Tensor grad, int[] cut) -> ()',
)


@add_mix_by_cells.register_fake
def _(total: Tensor, alpha: Tensor, grad: Tensor, cut: Sequence[int]) -> None:
    return None


def _remember(ctx, inputs, output) -> None:
    alpha, cells, ctx.cut, _ = inputs
    ctx.save_for_backward(alpha, cells)


def _gradients(ctx, grad: Tensor):
    alpha, cells = ctx.saved_tensors
    by_rows = mix_by_rows(grad, cells, ctx.cut) if ctx.needs_input_grad[0] else None
    by_cells = None
    if ctx.needs_input_grad[1]:
        by_cells = mix_by_cells(alpha, grad, ctx.cut).to(cells.dtype).transpose(0, 1)
    return by_rows, by_cells, None, None


mix.register_autograd(_gradients, setup_context=_remember)
