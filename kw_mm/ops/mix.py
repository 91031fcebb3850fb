"""Mixing cells into kernels, w_i = sum_j alpha_ij e_j (paper, Sec. 3.1), and gradients back.

Cells have the logical shape (n, cell_out, cell_in) and the memory order (cell_out, n, cell_in): the
product is then one small matrix product for each output channel of a cell. Each reads its n rows
once, and what it writes is a kernel's rows in the order in which a convolution reads them.

How gradients of shared cells are collected
-------------------------------------------
A warehouse serves up to 19 layers. If each layer's product had the cells as an input of autograd's,
every layer would return a gradient as large as the warehouse, and autograd would add them up in 18
new tensors. Instead:

- *What autograd sees.* The layers of one forward pass depend on a **token**, an empty tensor that
  ``_HandOver`` makes of the cells once for the pass. So the graph is
  cells -> _HandOver -> token -> _Mix (one for each layer). A layer's backward adds its share to a
  sum that all of them have in common, in place, and returns no gradient for the token, nor for the
  cells, which it has as an input so that autograd notices if they are changed meanwhile.
- *Why a token.* Autograd runs a node once all nodes that used its output have run. The token makes
  that order autograd's own business: ``_HandOver.backward`` runs after the last layer and gives
  autograd the finished sum as the cells' gradient. Everything built on autograd, hooks of
  DistributedDataParallel on the parameter included, sees an ordinary gradient, once.
- *What may nest.* A backward pass may run within another one (reentrant checkpointing), be repeated
  (a retained graph) or end before it reaches the cells (gradients of other leaves only). Sums are
  therefore kept by the number of the backward pass that they belong to, in the token's pass: they
  end with the graph. A pass ends for new layers when its cells are trained, loaded, frozen or set
  free (their version or ``requires_grad`` changes), since an old loss may outlive its step.
- *What it leaves to plain products.* Traced code, ``torch.func``'s transforms and forward mode,
  which need every node to be a function; and a backward pass that is itself recorded
  (``create_graph=True``), in which every layer returns its gradient to autograd.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import autocast_dtype, without_autocast
from .tracing import is_traced
from .twice import composite_gradients, is_recorded

Sums = dict[int, Tensor]  # by backward pass
Casts = dict[torch.dtype, Tensor]


class CellGradients:
    """Where the layers that share a warehouse sum up their gradients for its cells."""

    def __init__(self) -> None:
        self._current: weakref.ref[_ForwardPass] | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> CellGradients:
        return CellGradients()

    def __reduce__(self) -> tuple[type[CellGradients], tuple[()]]:
        return CellGradients, ()

    def forward_pass(self, cells: Tensor) -> _ForwardPass:
        """The forward pass that is under way, or a new one; it lives as long as its graph."""
        current = self._current() if self._current else None
        if current is None or not current.is_of(cells):
            current = _ForwardPass(cells)
            self._current = weakref.ref(current)
        return current


class SharedCells(NamedTuple):
    """The cells that the layers of a warehouse share, and where their gradients are summed.

    Args:
        values (Tensor): Shape (n, cell_out, cell_in cell_h cell_w), of any strides.
        gradients: One for each warehouse. Without, every product is a node of autograd's own.
    """

    values: Tensor
    gradients: CellGradients | None = None


class _ForwardPass:
    """What the layers of one forward pass have in common.

    Attributes:
        token (Tensor): Stands for the cells in autograd's graph.
        sums: Their gradients so far, shape (cell_out, n, cell_in), by backward pass.
        casts: The cells in other dtypes, cast once for all layers.
    """

    def __init__(self, cells: Tensor):
        self._cells, self._state = weakref.ref(cells), _state(cells)
        self.sums: Sums = {}
        self.casts: Casts = {}
        self.token: Tensor = _HandOver.apply(cells, self.sums, self.casts)

    def is_of(self, cells: Tensor) -> bool:
        """Whether the cells are the same, and have not changed since."""
        return self._cells() is cells and self._state == _state(cells)

    def cast(self, cells: Tensor, dtype: torch.dtype) -> Tensor:
        """The cells in a dtype."""
        if cells.dtype == dtype:
            return cells
        if dtype not in self.casts:
            self.casts[dtype] = cells.to(dtype)
        return self.casts[dtype]

    def add(self, rows: Tensor, grad: Tensor, dtype: torch.dtype, products: Products) -> None:
        """Add a layer's share.

        Args:
            rows (Tensor): Its attention, shape (B m, n).
            grad (Tensor): Gradient of what its product gave.
            dtype: The cells'.
            products: Whose gradient it is.
        """
        current = torch._C._current_graph_task_id()
        self.sums[current] = products.by_cells(rows, grad, dtype, self.sums.get(current))


def _state(cells: Tensor) -> tuple[int, bool]:
    """What changes when the cells are trained, loaded, frozen or set free."""
    return cells._version, cells.requires_grad


class _HandOver(torch.autograd.Function):
    """Cells -> token, and the finished sum back."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, sums: Sums, casts: Casts) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.sums, ctx.casts = sums, casts
        return cells.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, None, None]:
        ctx.casts.clear()  # an optimizer may change the cells' data behind autograd's back
        total = ctx.sums.pop(torch._C._current_graph_task_id(), None)
        return None if total is None else total.transpose(0, 1), None, None


class _Mix(torch.autograd.Function):
    """A layer's product; its share of the cells' gradient goes around autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        cells: Tensor,
        token: Tensor,
        forward_pass: _ForwardPass,
        dtype: torch.dtype,
        products: Products,
    ) -> Tensor:
        ctx.forward_pass, ctx.dtypes = forward_pass, (rows.dtype, cells.dtype)
        ctx.products = products
        cast = forward_pass.cast(cells, dtype)
        seen = products.rows(rows, dtype)
        ctx.save_for_backward(rows, cells, seen, cast)
        return products.mix(seen, cast)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        given_rows, given_cells, rows, cells = ctx.saved_tensors
        if is_recorded():
            composite = partial(ctx.products.composite, dtype=cells.dtype)
            by_rows, by_cells = composite_gradients(composite, (given_rows, given_cells), grad)
            return by_rows, by_cells, None, None, None, None
        of_rows, of_cells = ctx.dtypes
        products = ctx.products
        grad = products.gradient(grad)
        if ctx.needs_input_grad[1]:
            ctx.forward_pass.add(rows, grad, of_cells, products)
        by_rows = products.by_rows(grad, cells).to(of_rows) if ctx.needs_input_grad[0] else None
        return by_rows, None, None, None, None, None


class Products:
    """The product that mixes cells and its two gradients, in operators of torch.

    A backend may have others, which give kernels in an order of their own.
    """

    def rows(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Attention, shape (B m, n), as it is multiplied and kept."""
        return rows.to(dtype)

    def mix(self, rows: Tensor, cells: Tensor) -> Tensor:
        """The mixtures, shape (cell_out, B m, cell_in)."""
        return product(rows, cells)

    def composite(self, rows: Tensor, cells: Tensor, dtype: torch.dtype) -> Tensor:
        """What :meth:`mix` gives, in operators whose gradients have gradients."""
        return product(rows.to(dtype), cells.to(dtype))

    def gradient(self, grad: Tensor) -> Tensor:
        """The mixtures' gradient as the other methods take it."""
        return grad.contiguous()

    def by_rows(self, grad: Tensor, cells: Tensor) -> Tensor:
        """The attention's gradient, shape (B m, n)."""
        if cells.shape[-1] == 1:
            return torch.mm(grad[..., 0].t(), cells[..., 0].t())
        return torch.bmm(grad, cells.permute(1, 2, 0)).sum(dim=0)

    def by_cells(
        self, rows: Tensor, grad: Tensor, dtype: torch.dtype, total: Tensor | None
    ) -> Tensor:
        """The cells' gradient, shape (cell_out, n, cell_in), added to what there is, in place."""
        if grad.shape[-1] == 1:  # depthwise, as in `product`
            share = torch.mm(grad[..., 0], rows).unsqueeze(-1).to(dtype)
            return share if total is None else total.add_(share)
        weights = rows.t().expand(len(grad), -1, -1)
        if total is None:
            return torch.bmm(weights, grad).to(dtype)
        if grad.dtype == dtype:
            return total.baddbmm_(weights, grad)
        return total.add_(torch.bmm(weights, grad))


COMPOSITE = Products()


def product(rows: Tensor, cells: Tensor, out: Tensor | None = None) -> Tensor:
    """sum_j rows[r, j] cells[j].

    Args:
        rows (Tensor): Attention of every mixture of every image, shape (B m, n).
        cells (Tensor): Shape (n, cell_out, cell_in).
        out (Tensor, optional): Where to put the result.

    Returns:
        Tensor: Shape (cell_out, B m, cell_in).
    """
    if cells.shape[-1] == 1:  # depthwise: a single product
        return torch.mm(cells[..., 0].t(), rows.t()).unsqueeze(-1)
    by_output = cells.transpose(0, 1)  # (cell_out, n, cell_in)
    return torch.bmm(rows.expand(len(by_output), -1, -1), by_output, out=out)


def needs_gradients(alpha: Tensor, cells: Tensor) -> bool:
    """Whether mixing must be recorded for a backward pass."""
    return torch.is_grad_enabled() and (alpha.requires_grad or cells.requires_grad)


def mix_cells(alpha: Tensor, cells: SharedCells) -> Tensor:
    """Mix the cells for every image.

    Args:
        alpha (Tensor): Attention, shape (B, m, n).
        cells: The cells, n of them.

    Returns:
        Tensor: Shape (cell_out, B m, cell_in), under autocast in its dtype, else in the cells'.
    """
    dtype = mixing_dtype(cells.values)
    if is_shared(alpha, cells):
        return mix_shared(alpha, cells, dtype, COMPOSITE)
    return product(alpha.flatten(0, 1).to(dtype), cells.values.to(dtype))


def mixing_dtype(cells: Tensor) -> torch.dtype:
    """What cells are mixed in: under autocast its dtype, else their own."""
    return autocast_dtype(cells.device.type) or cells.dtype


def is_shared(alpha: Tensor, cells: SharedCells) -> bool:
    """Whether gradients of the cells are collected around autograd."""
    recorded = cells.gradients is not None and needs_gradients(alpha, cells.values)
    return recorded and not is_traced()


def mix_shared(alpha: Tensor, cells: SharedCells, dtype: torch.dtype, products: Products) -> Tensor:
    """Mix cells whose gradients are collected around autograd.

    Args:
        alpha, cells: As in :func:`mix_cells`.
        dtype: To mix in.
        products: How to multiply.

    Returns:
        Tensor: What ``products.mix`` gives.
    """
    assert cells.gradients is not None
    with without_autocast(cells.values.device.type):
        current = cells.gradients.forward_pass(cells.values)
        rows = alpha.flatten(0, 1)
        mixed: Tensor = _Mix.apply(rows, cells.values, current.token, current, dtype, products)
        return mixed
