"""Mixing cells into kernels, w_i = sum_j alpha_ij e_j (paper, Sec. 3.1), and the gradients' way back.

Cells are stored as (cell_out, n, cell_in), so that the product is one small matrix product for each output channel of
a cell: each reads its n rows once, and what it writes is a kernel's rows in the order a convolution reads them. A
warehouse serves up to 19 layers; their gradients are summed in one tensor while the backward pass goes through them.
"""
import weakref
from typing import Dict, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dynamic_conv.tracing import is_traced


class CellGradients:
    """Sum of the gradients that the layers of one backward pass have for the cells they share.

    Each layer adds its share in place and tells autograd nothing; a token that all layers of the forward pass have in
    common hands the sum to autograd once the last of them is through.
    """

    def __init__(self):
        self._token: Optional[weakref.ref] = None
        self._total: Optional[Tensor] = None
        self._backward_pass = -1

    def __deepcopy__(self, memo) -> 'CellGradients':
        return CellGradients()

    def __reduce__(self):
        return CellGradients, ()

    def token(self, cells: Tensor) -> Tensor:
        """What stands for the cells in autograd's graph; it lives as long as a graph that has it."""
        token = self._token and self._token()
        if token is None or token.cells() is not cells:
            token = _HandOver.apply(cells, self)
            token.cells, token.casts = weakref.ref(cells), {}
            self._token = weakref.ref(token)
        return token

    def add(self, rows: Tensor, grad: Tensor, dtype: torch.dtype) -> None:
        """Add one layer's share.

        Args:
            rows (Tensor): Its attention, shape (B m, n).
            grad (Tensor): Gradient of its mixtures, shape (cell_out, B m, cell_in).
            dtype: The cells'.
        """
        current = torch._C._current_graph_task_id()
        if current != self._backward_pass:                  # what an abandoned backward pass has left is void
            self._total, self._backward_pass = None, current
        weights = rows.t().expand(len(grad), -1, -1)
        if self._total is None:
            self._total = torch.bmm(weights, grad).to(dtype)
        elif grad.dtype == dtype:
            self._total.baddbmm_(weights, grad)
        else:
            self._total += torch.bmm(weights, grad)

    def take(self) -> Optional[Tensor]:
        """The sum, which is the caller's from now on."""
        total, self._total = self._total, None
        return total


class _HandOver(torch.autograd.Function):

    @staticmethod
    def forward(ctx, cells: Tensor, gradients: CellGradients) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradients = gradients
        return cells.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, _):
        return ctx.gradients.take(), None


class _Mix(torch.autograd.Function):

    @staticmethod
    def forward(ctx, rows: Tensor, cells: Tensor, token: Tensor, gradients: CellGradients, dtype: torch.dtype) -> Tensor:
        ctx.gradients, ctx.token, ctx.dtypes = gradients, token, (rows.dtype, cells.dtype)
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
            ctx.gradients.add(rows, grad, of_cells)
        by_rows = torch.bmm(grad, cells.transpose(1, 2)).sum(dim=0).to(of_rows) if ctx.needs_input_grad[0] else None
        return by_rows, None, None, None, None


def _cast(casts: Dict[torch.dtype, Tensor], cells: Tensor, dtype: torch.dtype) -> Tensor:
    """The cells in another dtype, cast once for all layers of a forward pass."""
    if cells.dtype == dtype:
        return cells
    if dtype not in casts:
        casts[dtype] = cells.to(dtype)
    return casts[dtype]


def product(rows: Tensor, cells: Tensor) -> Tensor:
    """sum_j rows[r, j] cells[:, j], shape (cell_out, B m, cell_in), from (B m, n) and (cell_out, n, cell_in)."""
    if cells.shape[-1] == 1:                                # depthwise: a single product
        return torch.mm(cells[..., 0], rows.t()).unsqueeze(-1)
    return torch.matmul(rows.expand(len(cells), -1, -1), cells)


def mix_cells(alpha: Tensor, cells: Tensor, gradients: CellGradients) -> Tensor:
    """Mix the cells for every image.

    Args:
        alpha (Tensor): Attention, shape (B, m, n).
        cells (Tensor): Shape (cell_out, n, cell_in).
        gradients: Where the layers that share the cells sum up their gradients.

    Returns:
        Tensor: Shape (cell_out, B m, cell_in), under autocast in its dtype, else in the cells'.
    """
    rows = alpha.flatten(0, 1)
    dtype = autocast_dtype(cells.device.type) or cells.dtype
    if not torch.is_grad_enabled() or not (rows.requires_grad or cells.requires_grad) or is_traced():
        return product(rows.to(dtype), cells.to(dtype))
    with torch.autocast(cells.device.type, enabled=False):
        return _Mix.apply(rows, cells, gradients.token(cells), gradients, dtype)


def autocast_dtype(device: str) -> Optional[torch.dtype]:
    """autocast's dtype on a kind of device; None where it is off."""
    if device == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None

