"""The one road in for weights: a module adapts a state dict of any layout when it loads it."""

import math
from collections import Counter
from collections.abc import MutableMapping
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from torch import Tensor, nn

from ..errors import CheckpointError
from ..validation import few
from ..warehouse import kw_layers
from .describing import describe_weights, is_same_network
from .layouts import (
    LAYOUTS,
    Entries,
    LayoutNames,
    from_fdconv,
    from_kw_mm,
    from_odconv,
    from_published,
    layout_of,
)
from .plain_kernels import AdaptsItself, PlainWeights, from_static
from .reading import read_checkpoint
from .state_dicts import under_prefix, unwrap, version_of

# our own state, which other layouts do not have
OURS = ('.attention.beta', '.temperature', '.num_batches_tracked')
TRANSLATIONS = dict(
    kw_mm=from_kw_mm, published=from_published, odconv=from_odconv, fdconv=from_fdconv
)
MOST_KEYS = 12  # that a log line names one by one


class LoadsAnyLayout:
    """Mixin for a module whose ``load_state_dict`` takes every layout there is.

    It comes before the OpenMMLab class in the bases and defines :meth:`layout_names`. See
    :mod:`kw_mm.checkpoints.layouts` for the layouts.

    Attributes:
        adapted (str): What was last loaded, and in which layout, in a line; empty before.
    """

    adapted = ''

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
        line = adapt(self, self.layout_names(), state_dict, prefix)
        self.adapted = line or self.adapted
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
            prefix = prefix if prefix.endswith('.') else f'{prefix}.'  # as in mmengine
            entries = under_prefix(entries, prefix)
        if not entries:
            raise ValueError(
                f'nothing in it begins with prefix={prefix!r}; an inherited prefix stays in '
                'init_cfg until prefix=None takes it away'
            )
        module.load_state_dict(entries)
    except (ValueError, CheckpointError) as error:
        raise CheckpointError(f'checkpoint {checkpoint!r}: {error}') from error


def adapt(
    module: nn.Module, names: LayoutNames, state_dict: MutableMapping[str, Tensor], prefix: str = ''
) -> str:
    """Rewrite a state dict to the module's layout, in place, and log what was used and what not.

    At the root (no prefix) it may be wrapped (``state_dict``, ``model``, ``module.``, ...) or hold
    a whole network with the module under ``backbone.`` or ``head.``.

    Args:
        module: The module being loaded.
        names: What its keys are called elsewhere.
        state_dict: Tensors by name.
        prefix: Prefix of the module's keys.

    Returns:
        str: The line in the log; empty where the state dict has nothing for the module.

    Raises:
        CheckpointError: The weights are of another network, or do not cover the module.
    """
    own = module.state_dict()
    expected = version_of(state_dict, f'{prefix}warehouses')  # which torch goes by
    entries, left_over = _take(state_dict, prefix, names.home)
    if not entries:
        return ''
    layout = layout_of(entries)
    found, note = _translate(module, names, entries, layout)
    used, dropped, kept = _complete(own, names, found.entries)
    version = expected if prefix else version_of(entries, 'warehouses')
    if version != expected:  # the warehouses' own version was inside a wrapper or a whole network
        used = _in_present_order(module, used, version)
    _check(module, own, entries, _in_present_order(module, used), names)
    foreign = found.foreign + dropped
    line = _log(module, layout, len(entries) - len(foreign), note, left_over + foreign, kept)
    state_dict.update({prefix + key: value for key, value in used.items()})
    return line


def _take(
    state_dict: MutableMapping[str, Tensor], prefix: str, home: str
) -> tuple[Entries, list[str]]:
    """Remove the module's entries from a state dict: the entries, and keys of other modules."""
    if prefix:
        entries = under_prefix(state_dict, prefix)
        for key in entries:
            del state_dict[prefix + key]
        return entries, []
    try:
        entries = unwrap(state_dict) if state_dict else {}
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    state_dict.clear()
    inner = under_prefix(entries, home)
    return (inner, [key for key in entries if not key.startswith(home)]) if inner else (entries, [])


def _translate(
    module: nn.Module, names: LayoutNames, entries: Entries, layout: str
) -> PlainWeights:
    if layout == 'static':
        result = from_static(module, names, entries)
    else:
        result = PlainWeights(TRANSLATIONS[layout](names, entries))
    found = result.translated.entries
    for name, layer in module.named_modules():
        if isinstance(layer, AdaptsItself):
            prefix = f'{name}.'
            own = [key for key in found if key.startswith(prefix)]
            adapted = layer.adapt_entries({key[len(prefix) :]: found.pop(key) for key in own})
            found.update({prefix + key: value for key, value in adapted.items()})
    return result


class _Completed(NamedTuple):
    used: dict[str, Tensor]
    dropped: list[str]
    kept: list[str]


def _complete(own: Entries, names: LayoutNames, found: Entries) -> _Completed:
    """What the module loads: what a layout lacks by its nature is the module's own.

    Returns:
        used: What the module loads; dropped: keys of optional parts that it does not have; kept:
        keys of its optional parts that the file does not have.
    """
    used = dict(found)
    used.update({key: own[key] for key in own if key.endswith(OURS) and key not in used})
    dropped = [key for key in used if key.startswith(names.optional) and key not in own]
    if names.lonely and not any(
        key.startswith(names.optional) and not key.startswith(names.lonely) for key in used
    ):
        dropped += [key for key in used if key.startswith(names.lonely) and key in own]
    used = {
        key: _in_shape_of(own.get(key), value) for key, value in used.items() if key not in dropped
    }
    kept = [key for key in own if key.startswith(names.optional) and key not in used]
    return _Completed({**used, **{key: own[key] for key in kept}}, dropped, kept)


def _in_present_order(
    module: nn.Module, used: Entries, version: int | None = None
) -> dict[str, Tensor]:
    """What the module's warehouses make of cells in the order of kw_mm 0.1."""
    warehouses, seen = getattr(module, 'warehouses', None), dict(used)
    if warehouses is not None:
        warehouses.reorder_old_cells(seen, 'warehouses.', version)
    return seen


def _in_shape_of(own: Tensor | None, value: Tensor) -> Tensor:
    """A layer scale of shape (C, ), (C, 1, 1) or (1, C, 1, 1) in the module's shape."""
    is_scale = own is not None and own.dim() in (1, 4) and own.numel() == max(own.shape, default=0)
    return value.reshape(own.shape) if is_scale and _squeezed(value) == _squeezed(own) else value


def _squeezed(value: Tensor) -> torch.Size:
    return value.squeeze().shape


def _check(
    module: nn.Module, own: Entries, entries: Entries, used: Entries, names: LayoutNames
) -> None:
    problems = dict(
        missing=[key for key in own if key not in used and not key.endswith('.frozen_cells')],
        unknown=[key for key in used if key not in own],
        shape=[
            f'{key} {tuple(used[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in used and key not in names.resized and used[key].shape != own[key].shape
        ],
    )
    if not any(problems.values()):
        return
    name = type(module).__name__
    if any(key.endswith('.frozen_cells') for key in problems['unknown']):
        raise CheckpointError(
            f"the weights were trained with freeze_warehouses='strict': build the {name} with that "
            'and the same frozen_stages, so that its frozen layers keep their own cells'
        )
    details = '; '.join(f'{title}: {few(keys)}' for title, keys in problems.items() if keys)
    reference = (_budget(module), own)
    if is_same_network(entries, own):
        keys = [key for found in problems.values() for key in found]
        raise CheckpointError(
            f'the weights look like {describe_weights(entries, reference)}, as this {name} does, '
            f'but were trained with other options ({details}); build it with {_options_of(keys)} '
            'that they have'
        )
    advice = f'; {names.advice}' if names.advice else ''
    raise CheckpointError(
        f'the weights look like {describe_weights(entries, reference)}, but this {name} is '
        f'{describe_weights(own, reference)} ({details}){advice}'
    )


def _options_of(keys: list[str]) -> str:
    """The options that decide on entries of a state dict."""
    if any('.attention.' in key for key in keys):
        return 'the reduction, attention_norm, nonlocal_basis_ratio and zero_cell'
    if any(key.startswith('warehouses.') for key in keys):
        return 'the sharing plan, sharing_range, cell_ratio and partition'
    return 'the stages, channels, norm_cfg and conv_cfg'


def _budget(module: nn.Module) -> float:
    """Values in all cells per value of the kernels that are mixed from them."""
    mixed = sum(math.prod(layer.partition.kernel_shape) for layer in kw_layers(module).values())
    if not mixed:
        return 0
    return sum(warehouse.cells.numel() for warehouse in module.warehouses.values()) / mixed


def _log(
    module: nn.Module, layout: str, used: int, note: str, left_over: list[str], kept: list[str]
) -> str:
    line = f'{type(module).__name__}: {LAYOUTS[layout]} layout, {used} tensors used'
    line += f'; {note}' if note else ''
    if left_over:
        line += f'; of other modules: {few(_grouped(left_over), MOST_KEYS)}'
    if kept:
        line += f'; not in the file, kept as they were: {few(_grouped(kept), MOST_KEYS)}'
    print_log(line, logger='current')
    return line


def _grouped(keys: list[str]) -> list[str]:
    """All keys, or, where there are many, every group of keys with its size."""
    if len(keys) <= MOST_KEYS:
        return keys
    groups = Counter('.'.join(key.split('.')[:2]) for key in keys)
    return [f'{group}.* ({count})' if count > 1 else group for group, count in groups.items()]
