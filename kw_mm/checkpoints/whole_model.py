"""Loading a checkpoint into a whole OpenMMLab model."""

from typing import Any

from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..errors import CheckpointError


def load_whole(
    model: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    *,
    strict: bool = True,
    logger: Any = None,
) -> None:
    """Load a whole model's weights.

    Args:
        model: Without a wrapper for several GPUs.
        checkpoint: With a ``state_dict`` in OpenMMLab's form, see
            :func:`~kw_mm.checkpoints.convert.for_openmmlab`.
        path: Where it came from, for messages.
        strict: Whether it must cover the whole model.
        logger: mmengine's, for what does not fit where ``strict`` is off.

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
