"""Finding the weights in what a checkpoint file holds, and the parts of a network in them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .layouts import Entries, cells_number

WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_ema', 'state_dict_ema', 'module')
WRAPPER_PREFIXES = ('module.', '_orig_mod.')
OPENMMLAB = ('backbone.', 'neck.')  # prefixes that only OpenMMLab's whole models have
# the classifier of other projects' networks; that of the published MobileNetV2 1/2x is mixed from
# the network's last warehouse
KW_CLASSIFIER = 'classifier.1.conv.'
CLASSIFIERS = (KW_CLASSIFIER, 'fc.', 'classifier.1.', 'classifier.2.', 'classifier.', 'head.fc.')
BARE_HEAD = ('head.weight', 'head.bias')
# the last norm of timm's and torchvision's ConvNeXt: part of the backbone
FINAL_NORMS = ('head.norm.', 'classifier.0.')


def unwrap(content: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, which may be wrapped as training frameworks do.

    Args:
        content: A state dict, or a dict with one under ``state_dict``, ``model``, ``model_ema``,
            ...

    Returns:
        dict: Tensors by name, without ``module.`` in front.

    Raises:
        ValueError: There are no tensors in it.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f'a {type(content).__name__} is not a checkpoint')
    inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if inner is not None:
        return unwrap(inner)
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        entries = ', '.join(map(str, list(content)[:8])) or 'none'
        raise ValueError(f'no weights in a checkpoint with the entries {entries}')
    for prefix in WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
    return tensors


def under_prefix(state_dict: Entries, prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {
        key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)
    }


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
        return content
    return dict(state_dict=whole_network(entries))


def is_openmmlab(entries: Entries) -> bool:
    """Whether keys are those of a whole OpenMMLab model."""
    return any(key.startswith(OPENMMLAB) for key in entries) or all(
        key.startswith('head.') for key in entries
    )


def whole_network(entries: Entries) -> dict[str, Tensor]:
    """A network's entries under an OpenMMLab model's names: ``backbone.``, ``head.``, ..."""
    if is_openmmlab(entries):
        return dict(entries)
    last = _last_warehouse(entries)
    return {
        f'head.{key}' if key == last else _openmmlab_key(key): value
        for key, value in entries.items()
    }


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
