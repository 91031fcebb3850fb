"""Finding the weights in what a checkpoint file holds, and the parts of a network in them."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .layouts import Entries, cells_number

WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_ema', 'state_dict_ema', 'module')
WRAPPER_PREFIXES = ('module.', '_orig_mod.')
MODEL_PREFIXES = ('backbone.', 'neck.')  # that only OpenMMLab's whole models have
# the classifier of other projects' networks; that of the published MobileNetV2 1/2x is mixed from
# the network's last warehouse
KW_CLASSIFIER = 'classifier.1.conv.'
CLASSIFIERS = (KW_CLASSIFIER, 'fc.', 'classifier.1.', 'classifier.2.', 'classifier.', 'head.fc.')
BARE_HEAD = ('head.weight', 'head.bias')
# the last norm of timm's and torchvision's ConvNeXt: part of the backbone
FINAL_NORMS = ('head.norm.', 'classifier.0.')


def unwrap(content: Any) -> OrderedDict[str, Tensor]:
    """The state dict inside a checkpoint, which may be wrapped as training frameworks do.

    Args:
        content: A state dict, or a dict with one under ``state_dict``, ``model``, ``model_ema``,
            ...

    Returns:
        OrderedDict: Tensors by name, without ``module.`` or ``_orig_mod.`` in front, with the
        versions of their modules.

    Raises:
        ValueError: There are no tensors in it.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f'a {type(content).__name__} is not a checkpoint')
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if inner is not None:
        return unwrap(inner)
    tensors = renamed(content, str)
    if not tensors:
        entries = ', '.join(map(str, list(content)[:8])) or 'none'
        raise ValueError(f'no weights in a checkpoint with the entries {entries}')
    while prefix := _common_wrapper(tensors):
        tensors = under_prefix(tensors, prefix)
    return tensors


def _common_wrapper(entries: Entries) -> str | None:
    """The wrapper's prefix that all keys begin with."""
    return next(
        (start for start in WRAPPER_PREFIXES if all(key.startswith(start) for key in entries)), None
    )


def under_prefix(state_dict: Entries, prefix: str) -> OrderedDict[str, Tensor]:
    """The entries under a prefix, without it; so are the modules whose versions are known."""
    return renamed(state_dict, lambda key: key[len(prefix) :] if key.startswith(prefix) else None)


def renamed(
    state_dict: Mapping[str, Any], rename: Callable[[str], str | None]
) -> OrderedDict[str, Tensor]:
    """A state dict's tensors under other names, with the versions of its modules.

    Args:
        state_dict: Tensors by name; anything else in it is left out.
        rename: The new name of a key, or of a module's prefix; None leaves it out.
    """
    tensors = {key: value for key, value in state_dict.items() if isinstance(value, Tensor)}
    pairs = ((rename(key), value) for key, value in tensors.items())
    entries = OrderedDict((key, value) for key, value in pairs if key is not None)
    entries._metadata = OrderedDict()  # where torch keeps and expects them
    for module, about in _metadata_of(state_dict).items():
        prefix = rename(f'{module}.' if module else '')
        if prefix is not None:
            entries._metadata[prefix.removesuffix('.')] = about
    return entries


def version_of(state_dict: Entries, module: str) -> int | None:
    """A module's version when its state dict was saved, if known."""
    return _metadata_of(state_dict).get(module, {}).get('version')


def _metadata_of(state_dict: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What torch notes of every module; a file may hold anything in its place."""
    metadata = getattr(state_dict, '_metadata', None)
    pairs = metadata.items() if isinstance(metadata, Mapping) else ()
    return {str(module): about for module, about in pairs if isinstance(about, Mapping)}


def for_openmmlab(content: Any) -> dict[str, Any]:
    """A checkpoint whose keys are those of a whole OpenMMLab model, from a file of any layout.

    Files of other projects have no ``backbone.`` in front of the backbone's keys, and another name
    for the classifier: both become OpenMMLab's. The layout within backbone and head stays as it
    is: the modules adapt it when they load it.

    Args:
        content: What the file holds.

    Returns:
        dict: ``{'state_dict': ...}``, with all else that a file of OpenMMLab's own form holds.

    Raises:
        CheckpointError: There are no weights in it.
    """
    try:
        entries = unwrap(content)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if is_openmmlab(entries) and 'state_dict' in content:
        return {**content, 'state_dict': entries}
    return dict(state_dict=whole_network(entries))


def is_openmmlab(entries: Entries) -> bool:
    """Whether keys are those of a whole OpenMMLab model."""
    return any(key.startswith(MODEL_PREFIXES) for key in entries) or all(
        key.startswith('head.') for key in entries
    )


def whole_network(entries: Entries) -> OrderedDict[str, Tensor]:
    """A network's entries under an OpenMMLab model's names: ``backbone.``, ``head.``, ..."""
    if is_openmmlab(entries):
        return renamed(entries, lambda key: key)
    last = _last_warehouse(entries)
    return renamed(entries, lambda key: f'head.{key}' if key == last else _openmmlab_key(key))


def _last_warehouse(entries: Entries) -> str | None:
    """The key of the classifier's cells, where it has any."""
    if not any(key.startswith(KW_CLASSIFIER) for key in entries):
        return None
    cells = {key: cells_number(key) for key in entries}
    return max((key for key in cells if cells[key] is not None), key=cells.get, default=None)


def _openmmlab_key(key: str) -> str:
    if key in BARE_HEAD:
        return key.replace('head.', 'head.fc.')
    if key.startswith(FINAL_NORMS):
        return f'backbone.{key}'
    start = next((start for start in CLASSIFIERS if key.startswith(start)), '')
    if start:
        return f'head.fc.{key[len(start) :]}'
    return key if key.startswith('head.') else f'backbone.{key}'
