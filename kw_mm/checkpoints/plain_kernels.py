"""Kernels of plain networks in dynamic ones.

The dynamic network begins as exactly the plain one, for every image and at every temperature: its
attention branches get values with which they give constants, and its kernels absorb the constants.
See :mod:`kw_mm.warehouse.plain_start` for warehouses (below a budget of 1 the nearest kernels that
their cells can form), and ``plain_entries`` of the compared convolutions.

With ``attention_start='published'`` a KW network keeps the attention that it was built with, and is
the plain network at temperature 1 only.
"""

from collections.abc import Mapping, MutableMapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..warehouse import KWLayer, kw_layers
from ..warehouse.initialization import beta_of
from ..warehouse.plain_start import EXACT_NOTE, PlainStart, plain_start
from .layouts import Entries, LayoutNames, Translated, from_prefixes

ATTENTION_STARTS = ('plain', 'published')


@runtime_checkable
class StartsPlain(Protocol):
    """A layer that can be a plain one, so that a plain network's weights lose nothing in it."""

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """Entries of its state dict that make it the plain layer, given that layer's weight.

        Returns:
            dict: Those that differ from the module's own, at any temperature.
        """
        ...


@runtime_checkable
class AdaptsItself(Protocol):
    """A layer whose parameters have no plain kernel's shape: it translates all layouts by itself.

    Attributes:
        init: 'plain' if plain weights make it exactly the plain layer.
    """

    init: str

    def adapt_entries(self, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its entries under our names, from any layout, a plain layer's ``weight`` included."""
        ...


class PlainWeights(NamedTuple):
    """A plain network's weights in a dynamic network.

    Args:
        translated: The entries under our names.
        note: What became of the network, for the log; empty where nothing in it is dynamic.
    """

    translated: Translated
    note: str = ''


def from_static(module: nn.Module, names: LayoutNames, entries: Entries) -> PlainWeights:
    """A plain network's entries under our names, with those that make the module this network.

    Raises:
        CheckpointError: The module cannot become the plain network; the message says why.
    """
    layers = kw_layers(module)
    plain = _plain_keys(module, layers)
    found = max(
        (from_prefixes(names, entries, prefixes) for prefixes in names.static.values()),
        key=lambda renamed: len(plain & set(renamed.entries)),
    )
    if not plain & set(found.entries):
        return PlainWeights(found)  # another network: the caller says so
    notes = [
        _start_warehouses(module, layers, found.entries),
        _start_dynamic_layers(module, found.entries),
    ]
    return PlainWeights(found, next(filter(None, notes), ''))


def _plain_keys(module: nn.Module, layers: Mapping[str, KWLayer]) -> set[str]:
    own = {
        key
        for key in module.state_dict()
        if '.attention.' not in key and not key.startswith('warehouses.')
    }
    return (
        own
        | {f'{name}.weight' for name in layers}
        | {
            f'{name}.weight'
            for name, layer in module.named_modules()
            if isinstance(layer, AdaptsItself)
        }
    )


def _start_warehouses(
    module: nn.Module, layers: Mapping[str, KWLayer], entries: MutableMapping[str, Tensor]
) -> str:
    weights = {name: entries.get(f'{name}.weight') for name in layers}
    kernels = {
        name: kernel
        for name, kernel in weights.items()
        if kernel is not None and _fits(layers[name], kernel)
    }
    if not layers or len(kernels) < len(layers):
        return ''  # another network: the caller says so
    published = getattr(module, 'attention_start', 'plain') == 'published'
    try:
        start = (_published_start if published else plain_start)(layers, kernels)
    except ValueError as error:
        raise CheckpointError(
            f'plain static weights cannot start this {type(module).__name__}: {error}'
        ) from error
    for name in kernels:
        del entries[f'{name}.weight']
    entries.update(start.entries)
    if published:
        return 'at temperature 1 it is the plain network, with the published start of attention'
    return str(start)


@torch.no_grad()
def _published_start(layers: Mapping[str, KWLayer], kernels: Mapping[str, Tensor]) -> PlainStart:
    """Plain kernels in the start cells; attention as the module was built."""
    entries: dict[str, Tensor] = {}
    for name, layer in layers.items():
        if layer.why_not_plain:
            raise ValueError(
                f"in layer {name!r}, {layer.why_not_plain}; use attention_start='plain', the "
                "default, which needs start='one_to_one', or KernelWarehouse weights"
            )
        attention, warehouse = layer.attention, layer.warehouse
        key = f'warehouses.{layer.warehouse_name}.cells'
        values = layer.partition.to_cells(kernels[name].reshape(layer.partition.kernel_shape))
        entries[key] = warehouse.with_cells(layer.start_cells, values, base=entries.get(key))
        beta = beta_of(attention.start, warehouse.num_cells, attention.zero_cell)
        entries.update(_under(name, {**attention.state_dict(), 'beta': beta}, 'attention.'))
    return PlainStart(entries, {})


def _start_dynamic_layers(module: nn.Module, entries: MutableMapping[str, Tensor]) -> str:
    """The same for the compared dynamic layers."""
    note = ''
    for name, layer in module.named_modules():
        kernel = entries.get(f'{name}.weight')
        if not isinstance(layer, StartsPlain) or kernel is None:
            continue
        if isinstance(layer, AdaptsItself):
            note = note or (EXACT_NOTE if layer.init == 'plain' else '')
            continue
        own = layer.state_dict()
        if kernel.shape == own['weight'].shape[-kernel.dim() :]:
            entries.update(_under(name, {key: own[key] for key in own if key != 'bias'}))
            entries.update(_under(name, layer.plain_entries(kernel.to(own['weight']))))
            note = EXACT_NOTE
    return note


def _under(name: str, entries: Mapping[str, Tensor], inner: str = '') -> dict[str, Tensor]:
    return {f'{name}.{inner}{key}': value for key, value in entries.items()}


def _fits(layer: KWLayer, kernel: Tensor) -> bool:
    shape = layer.partition.kernel_shape
    return tuple(kernel.shape) == shape or tuple(kernel.shape) + (1, 1) == shape
