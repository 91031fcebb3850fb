"""Finding the weights in what a checkpoint file holds."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_ema', 'state_dict_ema', 'module')
WRAPPER_PREFIXES = ('module.', '_orig_mod.')


def unwrap(content: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint: alone or under a training framework's wrappings.

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
        raise ValueError(
            f'no weights in a checkpoint with the entries {", ".join(map(str, list(content)[:8])) or "none"}'
        )
    for prefix in WRAPPER_PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key[len(prefix) :]: value for key, value in tensors.items()}
    return tensors


def below(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {
        key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)
    }
