"""Sharing plans: which layer draws on which warehouse, as data.

A plan maps warehouse names to the layers that share the warehouse, both in order:

>>> plan = {
...     'stage1': ['layer1.0.conv1', 'layer1.0.conv2'],
...     'stage2': dict(layers=['layer2.0.conv1'], budget=2),
... }

A value is a list of layer names, or a dict with the key ``layers`` and the options of
:class:`WarehousePlan` that differ for this warehouse. Start cells follow from the plan only, never
from the order of modules.

The paper's ablations of sharing are transformations of plans: :func:`within_layers`,
:func:`across_two_stages`, and :func:`of_equal_kernels` for whole kernels.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ..validation import check_pair
from .budget import Budget, as_budget

Plan = Mapping[str, Sequence[str] | Mapping[str, Any]]


@dataclass(frozen=True)
class WarehousePlan:
    """One warehouse of a plan.

    Args:
        layers: Names of the layers that share it, in the order in which they take their start
            cells.
        budget: b = n / m_t.
        cell_ratio: (output, input) share of the layers' common channel divisor that a cell takes.
    """

    layers: tuple[str, ...] = ()
    budget: Budget = Fraction(1)
    cell_ratio: tuple[float, float] = (1, 1)

    def __post_init__(self) -> None:
        check_pair('cell_ratio', self.cell_ratio)
        object.__setattr__(self, 'budget', as_budget(self.budget))
        object.__setattr__(self, 'cell_ratio', tuple(self.cell_ratio))


def read_plan(plan: Plan, default: WarehousePlan) -> dict[str, WarehousePlan]:
    """Complete a plan with defaults and check its form.

    Raises:
        TypeError: Not a mapping of names to lists of names (or dicts of options).
        ValueError: An empty plan or warehouse, an unknown option, or a layer named twice.
    """
    if not isinstance(plan, Mapping):
        raise TypeError(
            f'a plan maps warehouse names to lists of layer names; got {type(plan).__name__}'
        )
    read = {name: _read_warehouse(name, entry, default) for name, entry in plan.items()}
    _check_layers({name: warehouse.layers for name, warehouse in read.items()})
    return read


def _read_warehouse(name: str, entry: Any, default: WarehousePlan) -> WarehousePlan:
    options = dict(entry) if isinstance(entry, Mapping) else dict(layers=entry)
    unknown = sorted(set(options) - {'layers', 'budget', 'cell_ratio'})
    if unknown:
        raise ValueError(
            f'warehouse {name!r} has unknown options {unknown}; known are layers, budget, '
            'cell_ratio'
        )
    layers = options.get('layers')
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise TypeError(f'warehouse {name!r} needs a list of layer names; got {layers!r}')
    return replace(default, **{**options, 'layers': tuple(layers)})


def _check_layers(layers: dict[str, Sequence[str]]) -> None:
    if not layers:
        raise ValueError('the plan names no warehouse')
    owners: dict[str, list[str]] = {}
    for warehouse, names in layers.items():
        if not names:
            raise ValueError(f'warehouse {warehouse!r} names no layer')
        for name in names:
            owners.setdefault(name, []).append(warehouse)
    for name, warehouses in owners.items():
        if len(warehouses) > 1:
            raise ValueError(f'layer {name!r} is named more than once, in {warehouses}')


def as_planned(plan: dict[str, WarehousePlan]) -> dict[str, WarehousePlan]:
    """The plan itself; the published plans share within a stage."""
    return plan


def within_layers(plan: dict[str, WarehousePlan]) -> dict[str, WarehousePlan]:
    """Give every layer a warehouse of its own, named after it."""
    return {
        layer.replace('.', '_'): replace(warehouse, layers=(layer,))
        for warehouse in plan.values()
        for layer in warehouse.layers
    }


def across_two_stages(plan: dict[str, WarehousePlan]) -> dict[str, WarehousePlan]:
    """Join the warehouses of the first and second stage, of the third and fourth, ...

    Warehouses are known by the names of the published plans: ``stage1``, or ``stage1_depthwise``
    and the like, which join their own kind. Warehouses of other names stay.

    Raises:
        ValueError: No warehouse has such a name, or two to be joined differ in budget or cell
            ratio.
    """
    joined: dict[str, list[WarehousePlan]] = {}
    for name, warehouse in plan.items():
        joined.setdefault(_pair_of_stages(name), []).append(warehouse)
    if set(joined) == set(plan):
        raise ValueError(
            "sharing_range='two_stages' joins warehouses named stage1, stage2, ... (or "
            'stage1_depthwise, ...); '
            f'the plan has {", ".join(plan)}'
        )
    return {name: _join(name, warehouses) for name, warehouses in joined.items()}


SHARING_RANGES: dict[str, Callable[[dict[str, WarehousePlan]], dict[str, WarehousePlan]]] = {
    'layer': within_layers,
    'stage': as_planned,
    'two_stages': across_two_stages,
}


def of_equal_kernels(
    plan: dict[str, WarehousePlan], shapes: Mapping[str, Sequence[int]]
) -> dict[str, WarehousePlan]:
    """Split warehouses by kernel shape, so that whole kernels can be cells.

    Args:
        plan: A complete plan.
        shapes: Kernel shape of every layer.

    Returns:
        dict: Warehouses that had layers of several shapes are named after each, e.g.
            ``stage1_128x64x3x3``.
    """
    split: dict[str, WarehousePlan] = {}
    for name, warehouse in plan.items():
        layers: dict[str, list[str]] = {}
        for layer in warehouse.layers:
            layers.setdefault('x'.join(map(str, shapes[layer])), []).append(layer)
        for shape, equal in layers.items():
            split[f'{name}_{shape}' if len(layers) > 1 else name] = replace(
                warehouse, layers=tuple(equal)
            )
    return split


def _pair_of_stages(name: str) -> str:
    match = re.fullmatch(r'stage(\d+)(_\w+)?', name)
    if not match:
        return name
    last = (int(match.group(1)) + 1) // 2 * 2
    return f'stages{last - 1}and{last}{match.group(2) or ""}'


def _join(name: str, warehouses: Sequence[WarehousePlan]) -> WarehousePlan:
    first = warehouses[0]
    if any(
        (other.budget, other.cell_ratio) != (first.budget, first.cell_ratio) for other in warehouses
    ):
        raise ValueError(f'{name} cannot share a warehouse: their budgets or cell ratios differ')
    return replace(
        first, layers=tuple(layer for warehouse in warehouses for layer in warehouse.layers)
    )
