"""Loading checkpoint files into whole OpenMMLab models: one road for every tool."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..errors import CheckpointError
from ..validation import few
from .adapting import LoadsAnyLayout
from .layouts import Entries
from .reading import read_checkpoint
from .state_dicts import for_openmmlab


def load_weights(
    model: nn.Module,
    path: str,
    *,
    map_location: str = 'cpu',
    strict: bool = True,
    logger: Any = None,
) -> dict[str, Any]:
    """Load a checkpoint file of any layout into a whole OpenMMLab model.

    Args:
        model: Without a wrapper for several GPUs.
        path: A file, or a URL with a scheme that :func:`read_checkpoint` knows.
        map_location: Device for the tensors.
        strict: Whether it must cover the whole model.
        logger: mmengine's, for what does not fit where ``strict`` is off.

    Returns:
        dict: What the file holds, with a ``state_dict`` in OpenMMLab's form.

    Raises:
        CheckpointError: A file that cannot be read safely, or weights of another model.
    """
    checkpoint = read_model_checkpoint(path, map_location)
    load_model_state(model, checkpoint, path, strict=strict, logger=logger)
    return checkpoint


def read_model_checkpoint(path: str, map_location: str = 'cpu') -> dict[str, Any]:
    """Read a whole model's checkpoint from a file of any layout.

    Raises:
        CheckpointError: A file that cannot be read safely or holds no weights; it names the file.
    """
    content = read_checkpoint(path, map_location)
    try:
        return for_openmmlab(content)
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {path!r}: {error}') from error


def load_model_state(
    model: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    *,
    strict: bool = True,
    logger: Any = None,
) -> None:
    """Load what :func:`read_model_checkpoint` has read. Arguments as in :func:`load_weights`.

    Raises:
        CheckpointError: The weights are of another model; without ``strict``, all of them.
    """
    _check_some_fit(model, checkpoint['state_dict'], path)
    try:
        load_state_dict(model, checkpoint['state_dict'], strict=strict, logger=logger)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f'checkpoint {path!r} does not fit the model of this config: '
            f'{" ".join(lines[-2:])[:300]}'
        ) from error


def _check_some_fit(model: nn.Module, entries: Entries, path: str) -> None:
    """Refuse weights of which mmengine would leave out all, and only log it."""
    if is_model_wrapper(model) or isinstance(model, BaseTTAModel):  # mmengine looks inside
        model = model.module
    own = model.state_dict()
    adapting = tuple(
        f'{name}.' if name else ''
        for name, module in model.named_modules()
        if isinstance(module, LoadsAnyLayout)
    )
    if any(key in own or key.startswith(adapting) for key in entries):
        return
    raise CheckpointError(
        f'checkpoint {path!r} does not fit the model of this config: its keys must be those '
        f'of the model ({few(list(own))}), got {few(list(entries)) or "none"}; use weights of this '
        "model, or take a part of the file by the backbone's init_cfg=dict(type='Pretrained', "
        'checkpoint=..., prefix=...)'
    )
