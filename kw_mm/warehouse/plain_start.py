"""The start from plain kernels: a network that is the plain one at every temperature.

Attention begins as constants. Its last linear map has zero weights, so that the logits are the same
for every image, and beta, which the temperature blends in, is what they give. The cells are then
those whose mixtures, with these constants, are the plain kernels. Nothing is frozen: gradients
reach all logits in the first step, the last map's weights through the hidden units, and the first
map behind them, as in a low-rank adapter that starts at zero.

With a budget b >= 1 every mixture has a start cell of its own and the network is exactly the plain
one. Below, there are fewer cells than mixtures: the cells are those that leave the least error, the
leading left singular vectors of the plain cells being the attention.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .attention_functions import EPS, weigh_cells
from .initialization import beta_of, why_not_plain
from .layers import KWLayer
from .warehouses import Warehouse, list_cells

EXACT_NOTE = 'it is the plain network, at every temperature'
START_SHARE = 0.95  # of the start cell, where an attention function leaves none at zero

# Logits of a mixture's start cell and of all n others, by attention function. CAF sees only the
# logits' shares of their sum, so the sum decides how fast training moves attention: each logit
# moves by about the learning rate in a step of AdamW. n is the sum that the published start has.
START_LOGITS: dict[str, Callable[[int], tuple[float, float]]] = {
    'caf': lambda n: (n, 0),
    'caf_unnormalised': lambda n: (1, 0),
    'relu': lambda n: (n, 1 / START_SHARE - 1),
    'softmax': lambda n: (math.log(n * START_SHARE / (1 - START_SHARE)), 0),
    'sigmoid': lambda n: (math.log(n / (1 - START_SHARE)), -math.log(n / (1 - START_SHARE))),
}


class PlainStart(NamedTuple):
    """What makes a network with warehouses the plain one.

    Args:
        entries: Tensors of the network's state dict by name: the cells of all warehouses that its
            layers draw on, and these layers' attention branches.
        errors: By name, the relative error |K - K_plain| / |K_plain| of the kernels of each
            warehouse that has fewer cells than its layers have mixtures.
    """

    entries: dict[str, Tensor]
    errors: dict[str, float]

    def __str__(self) -> str:
        if not self.errors:
            return EXACT_NOTE
        errors = ', '.join(f'{name} {error:.1%}' for name, error in self.errors.items())
        return (
            'its budget is below 1, so kernels are the nearest to the plain ones that its cells '
            f'can form; relative error of each warehouse: {errors}'
        )

    def write(self, layers: Mapping[str, KWLayer]) -> None:
        """Set the entries in place.

        Args:
            layers: Those that the entries are for.
        """
        for name, layer in layers.items():
            own, prefix = layer.attention.state_dict(), f'{name}.attention.'
            layer.attention.load_state_dict({key: self.entries[prefix + key] for key in own})
            cells = self.entries[f'warehouses.{layer.warehouse_name}.cells']
            layer.warehouse.write(
                torch.arange(len(cells)), list_cells(cells, layer.warehouse.cell_size)
            )


@torch.no_grad()
def plain_start(layers: Mapping[str, KWLayer], kernels: Mapping[str, Tensor]) -> PlainStart:
    """Entries with which layers have given kernels, at every temperature and for every image.

    Args:
        layers: The KW layers of a network by name.
        kernels: The plain kernel of every layer by name, shape (C_out, C_in / groups, kh, kw), or
            (C_out, C_in) for a linear layer.

    Raises:
        ValueError: Layers that do not start from one cell for each mixture, or an attention
            function that cannot express what a budget below 1 needs.
    """
    entries: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    for warehouse, names in _by_warehouse(layers):
        drawn = [layers[name] for name in names]
        wanted = torch.cat([_as_rows(layers[name], kernels[name]) for name in names])
        fewer = warehouse.num_cells < len(wanted)
        _check(names, drawn, fewer)
        if not fewer:
            logits, cells = _own_cells(drawn, warehouse, wanted)
        else:
            logits, cells = _fewer_cells(drawn, warehouse, wanted)
            errors[drawn[0].warehouse_name] = _error(drawn[0], logits, cells, wanted)
        key = f'warehouses.{drawn[0].warehouse_name}.cells'
        entries[key] = warehouse.with_cells(torch.arange(len(cells)), _listed(cells, warehouse))
        sizes = [layer.partition.num_mixtures for layer in drawn]
        for name, layer, rows in zip(names, drawn, logits.split(sizes)):
            constant = layer.attention.constant_entries(rows)
            entries.update({f'{name}.attention.{key}': value for key, value in constant.items()})
    return PlainStart(entries, errors)


def _by_warehouse(layers: Mapping[str, KWLayer]) -> list[tuple[Warehouse, list[str]]]:
    names: dict[str, list[str]] = {}
    for name, layer in layers.items():
        names.setdefault(layer.warehouse_name, []).append(name)
    return [(layers[drawn[0]].warehouse, drawn) for drawn in names.values()]


def _check(names: Sequence[str], layers: Sequence[KWLayer], fewer_cells: bool) -> None:
    for name, layer in zip(names, layers):
        attention = layer.attention
        reason = why_not_plain(attention.start, attention.num_cells, fewer_cells)
        if reason:
            raise ValueError(
                f"in layer {name!r}, {reason}; use start='one_to_one', the default, or weights of "
                'the same kind'
            )
        signed = attention.function == 'caf_unnormalised' or (
            attention.function == 'caf' and attention.zero_cell
        )
        if fewer_cells and not signed:
            raise ValueError(
                f'layer {name!r} has attention_function={attention.function!r} and '
                f'zero_cell={attention.zero_cell}, which cannot express the mixtures that a budget '
                "below 1 needs; use the default, 'caf' with its zero cell, or a budget of 1 or more"
            )


def _as_rows(layer: KWLayer, kernel: Tensor) -> Tensor:
    """A plain kernel's cells, one in a row, shape (m, values of a cell)."""
    dtype = torch.promote_types(layer.cells.dtype, torch.float32)
    cells = layer.partition.to_cells(kernel.reshape(layer.partition.kernel_shape))
    return cells.flatten(1).to(layer.cells.device, dtype)


def _listed(rows: Tensor, warehouse: Warehouse) -> Tensor:
    """Cells in rows as (n, cell_out, cell_in, cell_h, cell_w)."""
    return rows.view(-1, *warehouse.cell_shape, *warehouse.cell_size)


def _attention(layer: KWLayer, logits: Tensor) -> Tensor:
    """What a layer's attention function makes of logits, without the zero cell's column."""
    alpha = weigh_cells(logits, logits, logits.new_zeros(()), layer.attention.function)
    return alpha[:, : layer.warehouse.num_cells]


def _own_cells(
    layers: Sequence[KWLayer], warehouse: Warehouse, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits, and cells in rows, where every mixture has a start cell of its own."""
    n = warehouse.num_cells
    beta = torch.cat([beta_of(layer.attention.start, n) for layer in layers])
    starts = beta.argmax(dim=1).to(wanted.device)  # (m_t, ), all different
    on, off = START_LOGITS[layers[0].attention.function](n)
    logits = wanted.new_full((len(wanted), layers[0].attention.beta.shape[1]), off)
    logits[torch.arange(len(wanted)), starts] = on
    alpha = _attention(layers[0], logits)
    cells = warehouse.listed.flatten(1).to(wanted)
    others = alpha.index_fill(1, starts, 0)
    remainder = wanted - others @ cells if others.any() else wanted
    cells[starts] = torch.linalg.solve(alpha[:, starts], remainder)
    return logits, cells


def _fewer_cells(
    layers: Sequence[KWLayer], warehouse: Warehouse, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for fewer cells than mixtures: the least squares fit by n cells.

    Of all bases of the space that the leading singular vectors span, the one nearest to the
    published start is taken, so that a mixture with a start cell leans on it.
    """
    n, attention = warehouse.num_cells, layers[0].attention
    vectors = torch.linalg.eigh(wanted @ wanted.T).eigenvectors[:, -n:]  # (m_t, n)
    beta = torch.cat([beta_of(layer.attention.start, n, False) for layer in layers]).to(vectors)
    left, _, right = torch.linalg.svd(vectors.T @ beta)
    coefficients = vectors @ left @ right
    if attention.function == 'caf_unnormalised':
        logits, scale = coefficients, 1.0
    else:  # every row sums to n in size: what the cells leave is the zero cell's
        scale = float(coefficients.abs().sum(dim=1).max())
        logits = coefficients * (n / scale)
        scale *= (n + EPS) / n
    cells = scale * (coefficients.T @ wanted)
    if attention.zero_cell:
        rest = (n - logits.abs().sum(dim=1, keepdim=True)).clamp(min=0)
        logits = torch.cat([logits, rest], dim=1)
    return logits, cells


def _error(layer: KWLayer, logits: Tensor, cells: Tensor, wanted: Tensor) -> float:
    found = _attention(layer, logits) @ cells
    return float((found - wanted).norm() / wanted.norm().clamp(min=torch.finfo(wanted.dtype).tiny))
