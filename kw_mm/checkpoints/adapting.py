"""Loading a state dict of any layout into a module with warehouses."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping

from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from torch import Tensor, nn

from ..errors import CheckpointError
from ..warehouse import KWLayer, kw_layers
from .describing import LAYOUTS, layout_of, looks_like
from .names import LayoutNames
from .odconv import from_odconv
from .published import from_published
from .reading import read_checkpoint
from .state_dicts import below, unwrap
from .static import from_static

# our own state, which other layouts do not have
OURS = ('.attention.beta', '.temperature', '.num_batches_tracked')


class LoadsAnyLayout:
    """Mixin for a module whose ``load_state_dict`` takes our layout, the published ones and plain static ones.

    It comes before the OpenMMLab class in the bases and defines :meth:`layout_names`.
    """

    def layout_names(self) -> LayoutNames:
        """What this module's keys are called in other layouts."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """As in OpenMMLab; ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes any layout.

        Raises:
            CheckpointError: The file cannot be read safely, or holds other weights.
        """
        cfg = self.init_cfg
        if not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
            self._init_from_scratch()
            return
        load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
        if hasattr(self, '_params_init_info'):
            update_init_info(self, init_info=f'Loaded from {cfg["checkpoint"]}')
        self._is_init = True

    def _init_from_scratch(self) -> None:
        super().init_weights()

    def _load_from_state_dict(self, state_dict, prefix, *args):
        adapt(self, self.layout_names(), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def load_pretrained(module: nn.Module, checkpoint: str, prefix: str | None = None) -> None:
    """Load a module from a checkpoint file, or from what is under ``prefix`` in it.

    Raises:
        CheckpointError: The file cannot be read safely, or holds other weights; it names the file.
    """
    content = read_checkpoint(checkpoint)
    try:
        entries = unwrap(content)
        if prefix:
            entries = below(entries, prefix)
        if not entries:
            raise ValueError(f'nothing in it begins with prefix={prefix!r}')
        module.load_state_dict(entries)
    except (ValueError, CheckpointError) as error:
        raise CheckpointError(f'checkpoint {checkpoint!r}: {error}') from error


def adapt(
    module: nn.Module, names: LayoutNames, state_dict: MutableMapping[str, Tensor], prefix: str = ''
) -> None:
    """Rewrite a state dict to the module's layout, in place, and log what was used and what was not.

    At the root (no prefix) it may be wrapped (``state_dict``, ``model``, ``module.``, ...) or hold
    a whole network with the module under ``backbone.`` or ``head.``.

    Args:
        module: The module being loaded.
        names: What its keys are called elsewhere.
        state_dict: Tensors by name.
        prefix: Prefix of the module's keys.

    Raises:
        CheckpointError: The weights are of another network, or do not cover the module.
    """
    own = module.state_dict()
    entries, left_over = _take(state_dict, prefix, names.home)
    if not entries:
        return
    layout = layout_of(entries)
    convert = dict(published=from_published, odconv=from_odconv, static=from_static).get(layout)
    used, foreign = convert(module, names, entries) if convert else _own(names, entries)
    used.update(
        {key: value for key, value in own.items() if key.endswith(OURS) and key not in used}
    )
    foreign += [key for key in used if key.startswith(names.optional) and key not in own]
    kept = [key for key in own if key.startswith(names.optional) and key not in used]
    used = {
        key: _as_vector(value, own.get(key)) for key, value in used.items() if key not in foreign
    }
    used.update({key: own[key] for key in kept})
    _check(module, own, entries, used, names.resized)
    _log(module, layout, len(entries) - len(foreign), left_over + foreign, kept)
    state_dict.update({prefix + key: value for key, value in used.items()})


def _take(
    state_dict: MutableMapping[str, Tensor], prefix: str, home: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Remove the module's entries from a state dict: the entries, and keys of other modules."""
    if prefix:
        entries = below(state_dict, prefix)
        for key in entries:
            del state_dict[prefix + key]
        return entries, []
    try:
        entries = unwrap(state_dict) if state_dict else {}
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    state_dict.clear()
    inner = below(entries, home)
    return (inner, [key for key in entries if not key.startswith(home)]) if inner else (entries, [])


def _own(names: LayoutNames, entries: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    foreign = [key for key in entries if names.foreign and key.startswith(names.foreign)]
    return {key: value for key, value in entries.items() if key not in foreign}, foreign


def _as_vector(value: Tensor, own: Tensor | None) -> Tensor:
    """A layer scale, which some projects keep as (C, 1, 1) or (1, C, 1, 1), as the module's (C, )."""
    is_vector = own is not None and own.dim() == 1 and value.squeeze().shape == own.shape
    return value.reshape(own.shape) if is_vector else value


def _check(
    module: nn.Module,
    own: Mapping[str, Tensor],
    entries: Mapping[str, Tensor],
    used: Mapping[str, Tensor],
    resized: tuple[str, ...],
) -> None:
    problems = dict(
        missing=[key for key in own if key not in used and not key.endswith('.frozen_cells')],
        unknown=[key for key in used if key not in own],
        shape=[
            f'{key} {tuple(used[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in used and key not in resized and used[key].shape != own[key].shape
        ],
    )
    if not any(problems.values()):
        return
    if any(key.endswith('.frozen_cells') for key in problems['unknown']):
        raise CheckpointError(
            f"the weights were trained with freeze_warehouses='strict': build the {type(module).__name__} "
            'with that and the same frozen_stages, so that its frozen layers keep their own cells'
        )
    details = '; '.join(f'{title}: {_few(keys)}' for title, keys in problems.items() if keys)
    reference = (_budget(module), own)
    raise CheckpointError(
        f'the weights look like {looks_like(entries, reference)}, but this {type(module).__name__} is '
        f'{looks_like(own, reference)} ({details})'
    )


def _budget(module: nn.Module) -> float:
    layers: list[KWLayer] = list(kw_layers(module).values())
    mixed = sum(math.prod(layer.partition.kernel_shape) for layer in layers)
    return (
        sum(warehouse.cells.numel() for warehouse in module.warehouses.values()) / mixed
        if mixed
        else 0
    )


def _log(module: nn.Module, layout: str, used: int, left_over: list[str], kept: list[str]) -> None:
    line = f'{type(module).__name__}: {LAYOUTS[layout]} layout, {used} tensors used'
    if left_over:
        line += f'; of other modules: {summarise(left_over)}'
    if kept:
        line += f'; not in the file, kept as they were: {summarise(kept)}'
    print_log(line, logger='current')


def summarise(keys: Iterable[str], most: int = 12) -> str:
    """Name every key, or, where there are many, every group of keys with its size."""
    keys = list(keys)
    if len(keys) <= most:
        return ', '.join(keys)
    groups = Counter('.'.join(key.split('.')[:2]) for key in keys)
    return ', '.join(
        f'{group}.* ({count})' if count > 1 else group for group, count in groups.items()
    )


def _few(keys: list[str], most: int = 3) -> str:
    rest = f' and {len(keys) - most} more' if len(keys) > most else ''
    return ', '.join(keys[:most]) + rest
