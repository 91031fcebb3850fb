"""Sharing plans: which layer draws on which warehouse, as data.

A plan maps warehouse names to the layers that share the warehouse, both in order:

>>> plan = {'stage1': ['layer1.0.conv1', 'layer1.0.conv2'], 'stage2': dict(layers=['layer2.0.conv1'], budget=2)}

A value is a list of layer names, or a dict with the key ``layers`` and the options of :class:`WarehousePlan` that
differ for this warehouse. Start cells follow from the plan alone, never from the order of modules.
"""
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

from .budget import Budget, as_budget

Plan = Mapping[str, Union[Sequence[str], Mapping[str, Any]]]


@dataclass(frozen=True)
class WarehousePlan:
    """One warehouse of a plan.

    Args:
        layers: Names of the layers that share it, in the order in which they take their start cells.
        budget: b = n / m_t.
        cell_ratio: (output, input) share of the layers' common channel divisor that a cell takes.
    """
    layers: Tuple[str, ...] = ()
    budget: Budget = Fraction(1)
    cell_ratio: Tuple[float, float] = (1, 1)

    def __post_init__(self):
        object.__setattr__(self, 'budget', as_budget(self.budget))


def read_plan(plan: Plan, default: WarehousePlan) -> Dict[str, WarehousePlan]:
    """Complete a plan with defaults and check its form.

    Raises:
        TypeError: Not a mapping of names to lists of names (or dicts of options).
        ValueError: An empty plan or warehouse, an unknown option, or a layer named twice.
    """
    if not isinstance(plan, Mapping):
        raise TypeError(f'a plan maps warehouse names to lists of layer names; got {type(plan).__name__}')
    read = {name: _read_warehouse(name, entry, default) for name, entry in plan.items()}
    _check_layers({name: warehouse.layers for name, warehouse in read.items()})
    return read


def _read_warehouse(name: str, entry: Any, default: WarehousePlan) -> WarehousePlan:
    options = dict(entry) if isinstance(entry, Mapping) else dict(layers=entry)
    unknown = sorted(set(options) - {'layers', 'budget', 'cell_ratio'})
    if unknown:
        raise ValueError(f'warehouse {name!r} has unknown options {unknown}; known are layers, budget, cell_ratio')
    layers = options.get('layers')
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise TypeError(f'warehouse {name!r} needs a list of layer names; got {layers!r}')
    return replace(default, **{**options, 'layers': tuple(layers)})


def _check_layers(layers: Dict[str, Sequence[str]]) -> None:
    if not layers:
        raise ValueError('the plan names no warehouse')
    owners: Dict[str, List[str]] = {}
    for warehouse, names in layers.items():
        if not names:
            raise ValueError(f'warehouse {warehouse!r} names no layer')
        for name in names:
            owners.setdefault(name, []).append(warehouse)
    for name, warehouses in owners.items():
        if len(warehouses) > 1:
            raise ValueError(f'layer {name!r} is named more than once, in {warehouses}')
