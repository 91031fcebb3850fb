"""The layout of the published KernelWarehouse checkpoints.

Cells are ``warehouse_manager.weights.K``, warehouses counted in the order of their first layer; the other keys are
those of a torchvision-style network. Neither temperature nor beta is in such a file: a module keeps its own.
"""
import re
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, MutableMapping, Optional, Tuple

from mmengine.logging import print_log
from torch import Tensor, nn

CELLS = re.compile(r'warehouse_manager\.weights\.(\d+)$')
OUR_STATE = ('.attention.beta', 'warehouses.temperature', '.frozen_cells')


@dataclass(frozen=True)
class PublishedNames:
    """How a module's keys are called in a published file.

    Args:
        warehouses: {K of ``warehouse_manager.weights.K``: our warehouse's name}.
        prefixes: (published, ours) pairs of key prefixes, most specific first.
        foreign: Published key prefixes that belong to another module of the same network.
    """
    warehouses: Mapping[int, str]
    prefixes: Tuple[Tuple[str, str], ...]
    foreign: Tuple[str, ...] = ()

    def ours(self, key: str) -> Optional[str]:
        """Our name of a published key; None if it belongs to another module."""
        cells = CELLS.match(key)
        if cells:
            name = self.warehouses.get(int(cells.group(1)))
            return name and f'warehouses.{name}.cells'
        if key.startswith(self.foreign):
            return None
        for published, ours in self.prefixes:
            if key.startswith(published):
                return ours + key[len(published):]
        return key


def is_published(keys: Iterable[str], prefix: str = '') -> bool:
    """Whether keys below ``prefix`` are of the published layout."""
    return any(key.startswith(f'{prefix}warehouse_manager.weights.') for key in keys)


def convert_published(module: nn.Module, names: PublishedNames, state_dict: MutableMapping[str, Tensor],
                      prefix: str = '') -> None:
    """Rewrite a published state dict to the module's layout, in place, and log what was used and what was not.

    Keys of another module of the same network (a classifier, seen from a backbone) are taken out and named in the
    log; unknown ones stay, for ``load_state_dict`` to report.

    Args:
        module: The module that is being loaded.
        names: How its keys are called in published files.
        state_dict: Tensors by published key, below ``prefix``.
        prefix: Prefix of the module's keys.
    """
    own = module.state_dict()
    published = {key[len(prefix):]: state_dict.pop(key) for key in list(state_dict) if key.startswith(prefix)}
    converted, left_over = {}, []
    for key, value in published.items():
        ours = names.ours(key)
        if ours is None:
            left_over.append(key)
        else:
            converted[ours] = _as_cells(value) if ours.startswith('warehouses.') else value
    _log(module, converted, own, left_over)
    converted.update({key: value for key, value in own.items()
                      if key.endswith(OUR_STATE) and not key.endswith('.frozen_cells')})
    state_dict.update({prefix + key: value for key, value in converted.items()})


def _as_cells(value: Tensor) -> Tensor:
    """(n, cell_out, cell_in, 1, 1), whether published for a convolution or for a linear layer."""
    return value.reshape(*value.shape[:3], 1, 1) if value.dim() in (3, 4, 5) else value


def _log(module: nn.Module, converted: Dict[str, Tensor], own: Dict[str, Tensor], left_over: List[str]) -> None:
    unknown = [key for key in converted if key not in own]
    missing = [key for key in own if key not in converted and not key.endswith(OUR_STATE)]
    parts = [f'{type(module).__name__}: published KernelWarehouse layout, {len(converted) - len(unknown)} tensors used']
    for title, keys in (('of other modules', left_over), ('unknown', unknown), ('missing', missing)):
        if keys:
            parts.append(f'{title}: {summarise(keys)}')
    print_log('; '.join(parts), logger='current')


def summarise(keys: Iterable[str], most: int = 12) -> str:
    """Name every key, or, where there are many, every group of keys with its size."""
    keys = list(keys)
    if len(keys) <= most:
        return ', '.join(keys)
    groups = Counter('.'.join(key.split('.')[:2]) for key in keys)
    return ', '.join(f'{group}.* ({count})' for group, count in groups.items())
