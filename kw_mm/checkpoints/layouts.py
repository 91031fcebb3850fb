"""The layouts that weights come in, and the way from their keys and shapes to ours.

- ``kw_mm``: our own. Cells are ``warehouses.NAME.cells``, all other keys those of OpenMMLab.
- ``published``: the authors' KernelWarehouse files (https://github.com/OSVAI/KernelWarehouse).
  Cells are ``warehouse_manager.weights.K``, warehouses counted in the order of their first layer;
  the other keys are those of a torchvision-style network. Neither temperature nor beta is in such a
  file: a module keeps its own.
- ``odconv``: the authors' ODConv files (https://github.com/OSVAI/ODConv). Keys are those of a
  torchvision-style network; the attention branch's linear maps are 1x1 convolutions there, and its
  norm is called ``bn``. The temperature is not in such a file: a module keeps its own, by default
  the 1 that training ends with.
- ``fdconv``: the authors' FDConv files (https://github.com/Linwei-Chen/FDConv). Keys are those of a
  torchvision-style network; what differs in its layers is in
  :mod:`kw_mm.compared.fdconv_layout`. Frequency groups are not in such a file.
- ``static``: plain networks under the names of several projects, see
  :mod:`kw_mm.checkpoints.plain_kernels`.

What an architecture's keys are called elsewhere stands in its file in :mod:`kw_mm.models`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ..warehouse.warehouses import store_cells

Entries = Mapping[str, Tensor]
Prefixes = tuple[tuple[str, str], ...]

LAYOUTS = dict(
    kw_mm='kw_mm',
    published='published KernelWarehouse',
    odconv='published ODConv',
    fdconv='published FDConv',
    static='plain static',
)
PUBLISHED_CELLS = 'warehouse_manager.weights.'
LAYER_SCALE = re.compile(r'stages\.\d+\.\d+\.gamma$')
FDCONV_BRANCH, FDCONV_SPECTRUM = '.KSM_Global.', '.dft_weight'
ODCONV_NORM, OUR_NORM = '.attention.bn.', '.attention.norm.'


@dataclass(frozen=True)
class LayoutNames:
    """What a module's keys are called elsewhere.

    Args:
        warehouses: {K of the published ``warehouse_manager.weights.K``: our warehouse's name}.
        published: (theirs, ours) pairs of key prefixes in the authors' files.
        static: The same for plain networks, by project; a project without pairs uses our names.
        foreign: Key prefixes of other modules of the same network, in any of these layouts.
        optional: Our key prefixes that a module has or not by its options, such as the norm of an
            output: a file may lack them (the module keeps its own) and may have more of them.
        lonely: The one of ``optional`` that is left out if a file has no other: it is a
            classifier's, and belongs to no output of a module that has several.
        resized: Our keys whose values the module itself brings to its shape, such as position
            embeddings.
        classifier: Prefix of the classifier's keys in the authors' files.
        home: Prefix of the module's keys in a whole OpenMMLab model.
        advice: What to do about weights that do not fit, if there is something particular.
    """

    warehouses: Mapping[int, str] = field(default_factory=dict)
    published: Prefixes = ()
    static: Mapping[str, Prefixes] = field(default_factory=lambda: {'torchvision': ()})
    foreign: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    lonely: str = ''
    resized: tuple[str, ...] = ()
    classifier: str = 'fc.'
    home: str = 'backbone.'
    advice: str = ''

    def rename(self, key: str, prefixes: Prefixes) -> str | None:
        """Our name of a key; None if it belongs to another module."""
        renamed = rename(key, prefixes)
        return None if renamed == key and key.startswith(self.foreign) else renamed


class Translated(NamedTuple):
    """A module's entries.

    Args:
        entries: Tensors under our names.
        foreign: Keys, as they were, of entries that belong to another module of the network.
    """

    entries: dict[str, Tensor]
    foreign: list[str]


def rename(key: str, prefixes: Prefixes) -> str:
    """A key under its new prefix; unchanged where no old one fits."""
    return next((new + key[len(old) :] for old, new in prefixes if key.startswith(old)), key)


def reverse(prefixes: Prefixes) -> Prefixes:
    """(ours, theirs) pairs."""
    return tuple((ours, theirs) for theirs, ours in prefixes)


def numbered_blocks(blocks: Sequence[int], first: int = 1) -> Iterator[tuple[int, int]]:
    """(stage, index) of every block, stages counted from ``first``.

    Args:
        blocks: Number of blocks of each stage.
        first: The first stage's number.
    """
    for stage, count in enumerate(blocks, start=first):
        for index in range(count):
            yield stage, index


def layout_of(keys: Iterable[str]) -> str:
    """The layout that keys are in: one of :data:`LAYOUTS`."""
    keys = list(keys)
    if any(key.startswith(PUBLISHED_CELLS) for key in keys):
        return 'published'
    if any(ODCONV_NORM in key for key in keys):
        return 'odconv'
    if any(FDCONV_BRANCH in key for key in keys) or (
        any(key.endswith(FDCONV_SPECTRUM) for key in keys)
        and not any('.attention.' in key for key in keys)
    ):
        return 'fdconv'
    ours = any(key.startswith('warehouses.') or '.attention.' in key for key in keys)
    return 'kw_mm' if ours else 'static'


def cells_number(key: str) -> int | None:
    """K of the published key ``warehouse_manager.weights.K``; None for other keys."""
    number = key.removeprefix(PUBLISHED_CELLS)
    return int(number) if number != key and number.isdigit() else None


def from_kw_mm(names: LayoutNames, entries: Entries) -> Translated:
    """Entries of our own layout: all but those of other modules."""
    foreign = [key for key in entries if key.startswith(names.foreign)]
    return Translated({key: entries[key] for key in entries if key not in foreign}, foreign)


def from_prefixes(names: LayoutNames, entries: Entries, prefixes: Prefixes) -> Translated:
    """Entries whose keys differ from ours in prefixes only."""
    ours = {key: names.rename(key, prefixes) for key in entries}
    return Translated(
        {name: entries[key] for key, name in ours.items() if name is not None},
        [key for key, name in ours.items() if name is None],
    )


def from_published(names: LayoutNames, entries: Entries) -> Translated:
    """Entries of the published KernelWarehouse layout under our names, cells as we store them."""
    cells = {key: number for key in entries if (number := cells_number(key)) is not None}
    others = {key: value for key, value in entries.items() if key not in cells}
    found = from_prefixes(names, others, names.published)
    for key, number in cells.items():
        if number in names.warehouses:
            found.entries[f'warehouses.{names.warehouses[number]}.cells'] = _stored(entries[key])
        else:
            found.foreign.append(key)
    return found


def from_odconv(names: LayoutNames, entries: Entries) -> Translated:
    """Entries of the published ODConv layout under our names, 1x1 convolutions as linear maps."""
    found: dict[str, Tensor] = {}
    renamed = from_prefixes(names, entries, names.published)
    for key, value in renamed.entries.items():
        is_linear = '.attention.' in key and value.dim() == 4 and value[0, 0].numel() == 1
        found[key.replace(ODCONV_NORM, OUR_NORM)] = value.flatten(1) if is_linear else value
    return Translated(found, renamed.foreign)


def from_fdconv(names: LayoutNames, entries: Entries) -> Translated:
    """Entries of the published FDConv layout; the layers rename their own."""
    return from_prefixes(names, entries, names.published)


def _stored(cells: Tensor) -> Tensor:
    """Published cells, (n, cell_out, cell_in, 1, 1) or of other dimensions, as we store them."""
    is_pointwise = 3 <= cells.dim() <= 6 and cells[0, 0, 0].numel() == 1
    return store_cells(cells) if is_pointwise else cells


def as_plain(key: str, value: Tensor) -> Tensor:
    """The value of one of our keys in the shape of plain networks: layer scales are (C, ) there."""
    return value.flatten() if LAYER_SCALE.match(key) else value


def as_published(key: str, value: Tensor) -> Tensor:
    """The value of one of our keys in its published shape: layer scales are (1, C, 1, 1) there."""
    return value.reshape(1, -1, 1, 1) if LAYER_SCALE.match(key) else value
