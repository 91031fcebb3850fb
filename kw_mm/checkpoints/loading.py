"""Loading checkpoint files into whole OpenMMLab models: one road for every tool."""

from typing import Any

from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..errors import CheckpointError
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
        CheckpointError: The weights are of another model.
    """
    try:
        load_state_dict(model, checkpoint['state_dict'], strict=strict, logger=logger)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f'checkpoint {path!r} does not fit the model of this config: '
            f'{" ".join(lines[-2:])[:300]}'
        ) from error
