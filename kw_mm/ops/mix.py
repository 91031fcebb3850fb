"""Mixing cells into kernels, w_i = sum_j alpha_ij e_j (paper, Sec. 3.1), and the gradients' way back.

Cells are stored as (cell_out, n, cell_in), so that the product is one small matrix product for each
output channel of a cell: each reads its n rows once, and what it writes is a kernel's rows in the
order a convolution reads them. A warehouse serves up to 19 layers; their gradients are summed in
one tensor while the backward pass goes through them.
"""

import weakref

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import autocast_dtype
from .scratch import scratch, worth_scratch
from .tracing import is_traced

Sums = dict[int, Tensor]  # by backward pass: they can be nested, repeated or abandoned
Casts = dict[torch.dtype, Tensor]


class CellGradients:
    """Where the layers that share a warehouse sum up their gradients for its cells.

    Each layer adds its share in place and tells autograd nothing; a token that all layers of the
    forward pass have in common hands the sum to autograd once the last of them is through.
    """

    def __init__(self):
        self._token: weakref.ref | None = None

    def __deepcopy__(self, memo) -> 'CellGradients':
        return CellGradients()

    def __reduce__(self):
        return CellGradients, ()

    def token(self, cells: Tensor) -> Tensor:
        """What stands for the cells in autograd's graph; it lives as long as a graph that has it."""
        token = self._token and self._token()
        if (
            token is None or token.cells() is not cells or token.state != _state(cells)
        ):  # a loss may outlive its step
            sums: Sums = {}
            casts: Casts = {}
            token = _HandOver.apply(cells, sums, casts)
            token.cells, token.state, token.sums, token.casts = (
                weakref.ref(cells),
                _state(cells),
                sums,
                casts,
            )
            self._token = weakref.ref(token)
        return token


def _state(cells: Tensor) -> tuple[int, bool]:
    """What changes when the cells are trained, loaded, frozen or set free."""
    return cells._version, cells.requires_grad


def _add(sums: Sums, rows: Tensor, grad: Tensor, dtype: torch.dtype) -> None:
    """Add a layer's share, from its attention (B m, n) and the gradient of its mixtures (cell_out, B m, cell_in)."""
    current = torch._C._current_graph_task_id()
    if grad.shape[-1] == 1:  # depthwise, as in `product`
        share = torch.mm(grad[..., 0], rows).unsqueeze(-1).to(dtype)
        sums[current] = sums[current].add_(share) if current in sums else share
        return
    weights = rows.t().expand(len(grad), -1, -1)
    if current not in sums:
        sums[current] = torch.bmm(weights, grad).to(dtype)
    elif grad.dtype == dtype:
        sums[current].baddbmm_(weights, grad)
    else:
        sums[current] += torch.bmm(weights, grad)


class _HandOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cells: Tensor, sums: Sums, casts: Casts) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.sums, ctx.casts = sums, casts
        return cells.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, _):
        ctx.casts.clear()  # an optimizer may change the cells' data behind autograd's back
        return ctx.sums.pop(torch._C._current_graph_task_id(), None), None, None


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, cells: Tensor, token: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.token, ctx.dtypes = token, (rows.dtype, cells.dtype)
        rows, cells = rows.to(dtype), _cast(token.casts, cells, dtype)
        ctx.save_for_backward(rows, cells)
        return product(rows, cells)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        rows, cells = ctx.saved_tensors
        of_rows, of_cells = ctx.dtypes
        grad = grad.contiguous()
        if ctx.needs_input_grad[1]:
            _add(ctx.token.sums, rows, grad, of_cells)
        by_rows = _by_rows(grad, cells).to(of_rows) if ctx.needs_input_grad[0] else None
        return by_rows, None, None, None


def _by_rows(grad: Tensor, cells: Tensor) -> Tensor:
    """The attention's gradient, shape (B m, n), from that of the mixtures, shape (cell_out, B m, cell_in)."""
    if cells.shape[-1] == 1:
        return torch.mm(grad[..., 0].t(), cells[..., 0])
    return torch.bmm(grad, cells.transpose(1, 2)).sum(dim=0)


def _cast(casts: Casts, cells: Tensor, dtype: torch.dtype) -> Tensor:
    """The cells in another dtype, cast once for all layers of a forward pass."""
    if cells.dtype == dtype:
        return cells
    if dtype not in casts:
        casts[dtype] = cells.to(dtype)
    return casts[dtype]


def product(rows: Tensor, cells: Tensor, transient: bool = False) -> Tensor:
    """sum_j rows[r, j] cells[:, j], shape (cell_out, B m, cell_in), from (B m, n) and (cell_out, n, cell_in)."""
    if cells.shape[-1] == 1:  # depthwise: a single product
        return torch.mm(cells[..., 0], rows.t()).unsqueeze(-1)
    rows = rows.expand(len(cells), -1, -1)
    if transient:
        shape = *rows.shape[:2], cells.shape[-1]
        if worth_scratch(shape, cells):
            return torch.bmm(rows, cells, out=scratch(shape, cells.dtype))
    return torch.bmm(rows, cells)


def mix_cells(
    alpha: Tensor, cells: Tensor, gradients: CellGradients, transient: bool = False
) -> Tensor:
    """Mix the cells for every image.

    Args:
        alpha (Tensor): Attention, shape (B, m, n).
        cells (Tensor): Shape (cell_out, n, cell_in).
        gradients: Where the layers that share the cells sum up their gradients.
        transient: Whether the result is done with before the thread's next call; without gradients
            it may then lie in memory that is used again.

    Returns:
        Tensor: Shape (cell_out, B m, cell_in), under autocast in its dtype, else in the cells'.
    """
    rows = alpha.flatten(0, 1)
    dtype = autocast_dtype(cells.device.type) or cells.dtype
    if (
        not torch.is_grad_enabled()
        or not (rows.requires_grad or cells.requires_grad)
        or is_traced()
    ):
        return product(
            rows.to(dtype),
            cells.to(dtype),
            transient and not (torch.is_grad_enabled() or is_traced()),
        )
    with torch.autocast(cells.device.type, enabled=False):
        return _Mix.apply(rows, cells, gradients.token(cells), dtype)
