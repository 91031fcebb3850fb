"""A sharing plan for any network, from one forward pass.

As in the published plans, layers share a warehouse that see feature maps of one size and play one
role, as far as their channels allow: cells are as large as the greatest common divisor of all
channels, and with small cells attention outgrows the kernels it mixes. Layers join the first
warehouse in which that does not happen. The stem, heads on pooled features, layers that are used
several times in a pass, and those that would mix too few cells stay plain.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.branch import hidden_units
from ..ops.partition import KernelShape, common_cell
from .budget import Budget, as_budget
from .plain_layers import PLAIN_LAYERS, kernel_shape
from .sharing import Plan

MAX_ATTENTION = 0.5  # values of attention branches per value of the cells that they mix
SMALL_SHARE = 0.01  # of the network's parameters: what attention to thin kernels may have at most
MIN_CELLS = 4  # in a warehouse
MAX_STEM_CHANNELS = 4  # of an image, at most
HALVES = (1 / 2, 1 / 2)


@dataclass(frozen=True)
class SeenLayer:
    """A convolution or linear layer, and what a forward pass has shown of it.

    Args:
        name: Its name in the network.
        kernel_shape: (C_out, C_in / groups, kh, kw).
        in_channels: C_in.
        positions: Of its input, H W or the number of tokens; 1 for pooled features.
        calls: How often it was used.
        role: 'dense', 'grouped' or 'depthwise'.
    """

    name: str
    kernel_shape: KernelShape
    in_channels: int
    positions: int
    calls: int
    role: str

    @property
    def values(self) -> int:
        """Values of its kernel."""
        return int(torch.Size(self.kernel_shape).numel())


@dataclass(frozen=True)
class AutoPlan:
    """A sharing plan and why it is as it is.

    Args:
        plan: For :func:`kw_mm.warehouse.apply_kernel_warehouse`; it can be edited, and saved as
            JSON.
        rows: (warehouse, layers, cell, m_t, n, values of plain kernels, of cells, of attention).
        left: Why a layer stays plain, by its name.
        parameters: Of the plain network.
    """

    plan: Plan
    rows: tuple[tuple[Any, ...], ...]
    left: Mapping[str, str]
    parameters: int

    def __str__(self) -> str:
        names = ('warehouse', 'layers', 'cell', 'm', 'n', 'kernels', 'cells', 'attention')
        rows = [names, *(tuple(map(str, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ['  '.join(map(str.rjust, row, widths)) for row in rows]
        kernels, cells, attention = (sum(row[i] for row in self.rows) for i in (5, 6, 7))
        after = self.parameters - kernels + cells + attention
        lines.append(
            f'{self.parameters / 1e6:.2f} -> {after / 1e6:.2f} M parameters; '
            f'{kernels / self.parameters:.0%} of them are in mixed kernels'
        )
        reasons: dict[str, list[str]] = {}
        for layer, reason in self.left.items():
            reasons.setdefault(reason, []).append(layer)
        lines += [f'plain: {", ".join(layers)} ({reason})' for reason, layers in reasons.items()]
        return '\n'.join(lines)


def auto_plan(
    network: nn.Module,
    inputs: Any = None,
    *,
    budget: Budget = 1,
    reduction: float = 1 / 16,
    skip: Sequence[str] = (),
) -> AutoPlan:
    """Plan which layers of a network share warehouses.

    Args:
        network: Any network of convolutions and linear layers.
        inputs: What it takes: a tensor, a tuple of arguments, or a list, which is one argument.
            Default a single image of 224 x 224 for a network that begins with a convolution.
        budget: b; depthwise and grouped layers have at least 1, as published.
        reduction: Hidden units of the attention branches per input channel.
        skip: Names of layers, or of modules with all their layers, that stay plain.

    Returns:
        AutoPlan: ``print`` shows it as a table.

    Raises:
        ValueError: A network that nothing can be planned for, or that needs ``inputs``.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 256, 1))
        >>> auto_plan(net).plan
        {'stage1': ['1', '2']}
    """
    seen = observe(network, _example(network) if inputs is None else inputs)
    left, usable = {}, []
    for layer in seen:
        reason = _why_plain(layer, skip)
        if reason:
            left[layer.name] = reason
        else:
            usable.append(layer)
    parameters = sum(p.numel() for p in network.parameters())
    costs = _Costs(as_budget(budget), reduction, SMALL_SHARE * parameters)
    plan, rows = {}, []
    for name, role, layers in _groups(usable):
        packed, too_large = costs.pack(layers, role)
        left.update(dict.fromkeys(too_large, 'attention would outgrow its kernel'))
        enough = [members for members in packed if costs.num_cells(members, role) >= MIN_CELLS]
        few = [layer.name for members in packed for layer in members if members not in enough]
        left.update(dict.fromkeys(few, 'no layers with channels like its own to share cells with'))
        for number, members in enumerate(enough):
            title = f'{name}_{number + 1}' if len(enough) > 1 else name
            plan[title] = costs.entry(members, role)
            rows.append(costs.row(title, members, role))
    if not plan:
        raise ValueError(
            f"plan='auto' finds no layers of this {type(network).__name__} that could share cells: "
            f'{left or "it has neither convolutions nor linear layers"}; give a plan of your own'
        )
    return AutoPlan(plan, tuple(rows), left, parameters)


def observe(network: nn.Module, inputs: Any) -> list[SeenLayer]:
    """The layers of a network that a forward pass uses, in the order of their first use."""
    names: dict[nn.Module, str] = {
        layer: name for name, layer in network.named_modules() if isinstance(layer, PLAIN_LAYERS)
    }
    positions: dict[nn.Module, list[int]] = {}

    def note(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        shape = arguments[0].shape
        size = shape[1:-1] if isinstance(layer, nn.Linear) else shape[2:]
        positions.setdefault(layer, []).append(int(torch.Size(size).numel()))

    handles = [layer.register_forward_pre_hook(note) for layer in names]
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with torch.no_grad():
            network(*inputs) if isinstance(inputs, tuple) else network(inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return [_seen(names[layer], layer, found) for layer, found in positions.items()]


def _seen(name: str, layer: nn.Module, positions: Sequence[int]) -> SeenLayer:
    assert isinstance(layer, PLAIN_LAYERS)
    shape, groups = kernel_shape(layer), getattr(layer, 'groups', 1)
    role = 'dense' if groups == 1 else 'depthwise' if shape[1] == 1 else 'grouped'
    return SeenLayer(name, shape, shape[1] * groups, positions[0], len(positions), role)


def _example(network: nn.Module) -> Tensor:
    """An image for a network that begins with a two-dimensional convolution."""
    layers = (module for module in network.modules() if isinstance(module, PLAIN_LAYERS))
    first = next(layers, None)
    if not isinstance(first, nn.Conv2d):
        raise ValueError(
            f"plan='auto' needs inputs=..., an example of what this {type(network).__name__} "
            'takes, such as a tensor or a tuple of arguments'
        )
    return torch.zeros(1, first.in_channels, 224, 224).to(first.weight)


def _why_plain(layer: SeenLayer, skip: Iterable[str]) -> str:
    """Why a layer stays plain; empty where it need not."""
    if any(layer.name == name or layer.name.startswith(f'{name}.') for name in skip):
        return 'to be skipped'
    if layer.in_channels <= MAX_STEM_CHANNELS:
        return 'stem'
    if layer.positions == 1:
        return 'sees pooled features'
    if layer.calls > 1:
        return 'used several times'
    return ''


def _groups(layers: Sequence[SeenLayer]) -> list[tuple[str, str, list[SeenLayer]]]:
    """(name, role, layers) of what may share: one size of feature maps and one role."""
    sizes = list(dict.fromkeys(layer.positions for layer in layers))
    groups: dict[tuple[str, str], list[SeenLayer]] = {}
    for layer in layers:
        stage = f'stage{sizes.index(layer.positions) + 1}'
        name = stage if layer.role == 'dense' else f'{stage}_{layer.role}'
        groups.setdefault((name, layer.role), []).append(layer)
    return [(name, role, members) for (name, role), members in groups.items()]


@dataclass(frozen=True)
class _Costs:
    """What warehouses cost.

    Args:
        budget: b of dense layers.
        reduction: Hidden units of the attention branches per input channel.
        small: Values that attention to thin kernels may have, whatever their number.
    """

    budget: Fraction
    reduction: float
    small: float

    def pack(
        self, layers: Sequence[SeenLayer], role: str
    ) -> tuple[list[list[SeenLayer]], list[str]]:
        """Warehouses for the layers of a group, and names of those that are too thin for one."""
        warehouses: list[list[SeenLayer]] = []
        too_large = []
        for layer in layers:
            joined = next((w for w in warehouses if self.fits([*w, layer], role)), None)
            if joined is not None:
                joined.append(layer)
            elif self.fits([layer], role):
                warehouses.append([layer])
            else:
                too_large.append(layer.name)
        return warehouses, too_large

    def fits(self, layers: Sequence[SeenLayer], role: str) -> bool:
        """Whether attention is small enough for layers to share a warehouse."""
        _, _, n, cells, attention = self.sizes(layers, role)
        return attention <= MAX_ATTENTION * cells or (role != 'dense' and attention <= self.small)

    def num_cells(self, layers: Sequence[SeenLayer], role: str) -> int:
        """n."""
        return self.sizes(layers, role)[2]

    def sizes(
        self, layers: Sequence[SeenLayer], role: str
    ) -> tuple[tuple[int, int], int, int, int, int]:
        """Cell, m_t, n, and values of cells and attention branches."""
        budget, ratio = self.options(layers, role)
        cell = common_cell([layer.kernel_shape for layer in layers], ratio)
        mixtures = [layer.values // (cell[0] * cell[1]) for layer in layers]
        n = int(budget * sum(mixtures))
        attention = 0
        for layer, m in zip(layers, mixtures):  # fc1, a batch norm, fc2 with its bias
            hidden = hidden_units(layer.in_channels, self.reduction)
            attention += hidden * (layer.in_channels + 2) + (hidden + 1) * m * (n + 1)
        return cell, sum(mixtures), n, n * cell[0] * cell[1], attention

    def options(
        self, layers: Sequence[SeenLayer], role: str
    ) -> tuple[Fraction, tuple[float, float]]:
        """Budget, rounded up to a whole number of cells, and cell ratio, as published below 1."""
        budget = self.budget if role == 'dense' else max(self.budget, Fraction(1))
        cell_out, cell_in = common_cell([layer.kernel_shape for layer in layers])
        halves = budget < 1 and cell_out % 2 == 0 and cell_in % 2 == 0
        cell = cell_out * cell_in // (4 if halves else 1)
        total = sum(layer.values for layer in layers) // cell
        return Fraction(math.ceil(budget * total), total), HALVES if halves else (1, 1)

    def entry(self, layers: Sequence[SeenLayer], role: str) -> Any:
        """A warehouse of the plan."""
        names = [layer.name for layer in layers]
        budget, ratio = self.options(layers, role)
        options: dict[str, Any] = {} if budget == self.budget else {'budget': float(budget)}
        if ratio != (1, 1):
            options['cell_ratio'] = list(ratio)
        return {'layers': names, **options} if options else names

    def row(self, title: str, layers: Sequence[SeenLayer], role: str) -> tuple[Any, ...]:
        """A warehouse's row of the table."""
        (cell_out, cell_in), m, n, cells, attention = self.sizes(layers, role)
        kernels = sum(layer.values for layer in layers)
        return title, len(layers), f'{cell_out}x{cell_in}', m, n, kernels, cells, attention
