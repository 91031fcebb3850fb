"""Converting checkpoint files between our layout, the published one and plain networks.

For ``tools/convert_checkpoint.py`` only: to load weights, none of this is needed, since modules
adapt every layout when they load it.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..errors import CheckpointError
from ..validation import check_choice
from ..warehouse import kw_layers
from ..warehouse.budget import Budget
from ..warehouse.sharing import Plan, WarehousePlan, read_plan
from .adapting import LoadsAnyLayout
from .architectures import Recognised, architectures, build_head, recognise
from .describing import cell_values, describe_weights
from .layouts import (
    PUBLISHED_CELLS,
    Entries,
    Prefixes,
    as_plain,
    as_published,
    layout_of,
    rename,
    reverse,
)
from .state_dicts import under_prefix, unwrap, whole_network

TARGETS = ('kw_mm', 'static', 'published')
OURS_ONLY = ('.attention.beta', 'warehouses.temperature', '.frozen_cells')
Converted = dict[str, dict[str, Tensor]]


class Parts(NamedTuple):
    """A network's weights.

    Args:
        backbone: The backbone's entries.
        head: The classifier's entries.
        others: Entries of a detector's neck and heads, under their full names.
    """

    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    others: dict[str, Tensor]


def convert(content: Any, to: str = 'kw_mm', *, budget: Budget = 1) -> Converted:
    """Convert what a checkpoint file holds.

    Args:
        content: A state dict, wrapped or not, of a classifier, a detector or a backbone.
        to: 'kw_mm', 'static' (mmpretrain's names; a KW network must be at temperature 1) or
            'published'.
        budget: Where plain weights become KW ones: the budget to place them in.

    Returns:
        dict: ``{'state_dict': ...}``.

    Raises:
        CheckpointError: An unknown network, or a conversion that would change what the network
            computes.
    """
    try:
        check_choice('to', to, TARGETS)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    parts = split(content)
    is_plain = layout_of(parts.backbone) == 'static'
    if is_plain and to == 'published':
        raise CheckpointError(
            'plain static weights have no published KernelWarehouse layout; convert them to kw_mm '
            'first'
        )
    found = recognise(parts.backbone)
    if found is None:
        raise CheckpointError(_unknown(parts.backbone))
    if is_plain and to == 'static':
        return _join(parts._replace(backbone=_mmpretrain_names(found, parts.backbone)))
    backbone = _load(found, parts.backbone, budget if is_plain else None)
    head = build_head(parts.head)
    if head is not None:
        head.load_state_dict(parts.head)
    if to == 'kw_mm':
        return _join_modules(parts, backbone, head, nn.Module.state_dict)
    if not kw_layers(backbone):
        raise CheckpointError(
            f'a {type(backbone).__name__} has no {to} KernelWarehouse twin; it can be converted to '
            'kw_mm'
        )
    if to == 'static':
        return _join_modules(parts, backbone, head, _static)
    return _published(parts, backbone, head)


def split(content: Any) -> Parts:
    """Take a network's weights apart.

    Raises:
        CheckpointError: There are no weights in it.
    """
    try:
        entries = whole_network(unwrap(content))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    others = {key: entries[key] for key in entries if not key.startswith(('backbone.', 'head.'))}
    return Parts(under_prefix(entries, 'backbone.'), under_prefix(entries, 'head.'), others)


def budget_of(found: Recognised, entries: Entries) -> Fraction:
    """The budget b of a KW network, from the sizes of its cells and of the kernels mixed from them.

    Args:
        found: The network.
        entries: Its backbone's entries, in our layout or the published one.

    Returns:
        Fraction: b; 1 where the network has no cells at all.
    """
    plain = found.build_static()
    kernels = {
        key.removesuffix('.weight'): value.numel()
        for key, value in plain.state_dict().items()
        if key.endswith('.weight')
    }
    layers = _mixed_layers(entries, plain.layout_names().published)
    total = sum(kernels.get(layer, 0) for layer in layers)
    if not total or not cell_values(entries):  # no KW network: loading says so
        return Fraction(1)
    average = Fraction(cell_values(entries), total)
    if average >= 1:  # then all warehouses have the same
        return average
    ratios = _budgets_of_warehouses(found.architecture.plan(plain, average), kernels, entries)
    return found.architecture.budget(ratios) if ratios else average


def _mixed_layers(entries: Entries, prefixes: Prefixes) -> list[str]:
    """Our names of the layers that have an attention branch."""
    branch = 'attention.fc1.weight'
    layers = [key.removesuffix(branch) for key in entries if key.endswith(f'.{branch}')]
    return [rename(layer, prefixes).rstrip('.') for layer in layers]


def _budgets_of_warehouses(
    plan: Plan, kernels: Mapping[str, int], entries: Entries
) -> dict[str, Fraction]:
    """n / m_t of every warehouse of the published plan; none where the weights have another."""
    ratios: dict[str, Fraction] = {}
    for number, (name, warehouse) in enumerate(read_plan(plan, WarehousePlan()).items()):
        keys = (f'warehouses.{name}.cells', f'{PUBLISHED_CELLS}{number}')
        cells = next((entries[key].numel() for key in keys if key in entries), None)
        if cells is None:
            return {}
        ratios[name] = Fraction(cells, sum(kernels[layer] for layer in warehouse.layers))
    return ratios


def _load(found: Recognised, entries: Entries, budget: Budget | None) -> LoadsAnyLayout:
    """The backbone with its weights; without a budget, with that of the weights."""
    is_given = budget is not None
    try:
        if not is_given and found.conv is None:
            budget = budget_of(found, entries)
        backbone = found.build(budget)
    except ValueError as error:
        words = '' if is_given else f'the weights look like {describe_weights(entries)}: '
        raise CheckpointError(f'{words}{error}') from error
    backbone.load_state_dict(entries)
    return backbone


def _unknown(entries: Entries) -> str:
    *names, last = (architecture.name for architecture in architectures())
    return (
        f'the weights look like {describe_weights(entries)}; kw_mm converts {", ".join(names)} '
        f'and {last}'
    )


def _join(parts: Parts) -> Converted:
    """A whole network under an OpenMMLab model's names."""
    backbone = {f'backbone.{key}': value for key, value in parts.backbone.items()}
    head = {f'head.{key}': value for key, value in parts.head.items()}
    return dict(state_dict={**backbone, **head, **parts.others})


def _join_modules(
    parts: Parts,
    backbone: nn.Module,
    head: nn.Module | None,
    entries_of: Callable[[nn.Module], dict[str, Tensor]],
) -> Converted:
    """The whole network, given what is taken of its modules; a plain classifier stays as it is."""
    classifier = parts.head if head is None else entries_of(head)
    return _join(Parts(entries_of(backbone), classifier, parts.others))


def _mmpretrain_names(found: Recognised, entries: Entries) -> Mapping[str, Tensor]:
    static = found.build_static()
    if not any(static.layout_names().static.values()):
        return entries  # all projects use the same names
    static.load_state_dict(entries)
    return static.state_dict()


def _static(module: nn.Module) -> dict[str, Tensor]:
    """The plain network that a KW module is where its kernels are the same for every image."""
    kernels = {f'{name}.weight': layer.plain_kernel for name, layer in kw_layers(module).items()}
    if any(kernel is None for kernel in kernels.values()):
        raise CheckpointError(
            f'the network is at temperature {float(module.temperature):g} and has been trained: '
            'its kernels depend on the image; it is a plain static network only at temperature 1, '
            'or as converted from plain weights, before training'
        )
    plain = {
        key: as_plain(key, value)
        for key, value in module.state_dict().items()
        if not key.startswith('warehouses.') and '.attention.' not in key
    }
    return {**plain, **kernels}


def _published(parts: Parts, backbone: LoadsAnyLayout, head: LoadsAnyLayout | None) -> Converted:
    state_dict = _published_names(backbone)
    if head is not None:
        number = len(backbone.warehouses)
        state_dict.update(_published_names(head, number))
        key = f'{PUBLISHED_CELLS}{number}'
        state_dict[key] = state_dict[key].squeeze(-1)  # published for a linear layer
    else:
        prefix = backbone.layout_names().classifier
        state_dict.update(
            {prefix + key.rsplit('.', 1)[-1]: value for key, value in parts.head.items()}
        )
    if parts.others:  # a detector's backbone keeps its place
        state_dict = {f'backbone.{key}': value for key, value in state_dict.items()}
    return dict(state_dict={**state_dict, **parts.others})


def _published_names(module: LoadsAnyLayout, first: int = 0) -> dict[str, Tensor]:
    """A KW module's entries in the published layout, its warehouses counted from ``first``."""
    cells = {
        f'warehouses.{name}.cells': (f'{PUBLISHED_CELLS}{number}', warehouse.listed.detach())
        for number, (name, warehouse) in enumerate(module.warehouses.items(), start=first)
    }
    prefixes = reverse(module.layout_names().published)
    return dict(
        cells[key] if key in cells else (rename(key, prefixes), as_published(key, value))
        for key, value in module.state_dict().items()
        if not key.endswith(OURS_ONLY)
    )
