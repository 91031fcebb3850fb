"""Loading a checkpoint of any layout into a whole OpenMMLab model."""
from typing import Any, Callable, Dict, Optional

from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..checkpoints.convert import for_openmmlab
from ..checkpoints.reading import read_checkpoint
from ..errors import CheckpointError


def load_weights(model: nn.Module, path: str, *, map_location: Any = 'cpu', strict: bool = True, logger: Any = 'silent',
                 before: Optional[Callable[[Dict], Any]] = None) -> Dict[str, Any]:
    """Load a checkpoint file.

    Args:
        model: Detector or classifier.
        path: The file, in any layout.
        map_location: Device for the tensors of the file.
        strict: Whether the file must cover the whole model.
        logger: For what is missing or left over, as in mmengine's ``load_state_dict``.
        before: Called with the checkpoint before it is loaded.

    Returns:
        dict: The checkpoint, with ``state_dict`` and whatever else the file holds.

    Raises:
        CheckpointError: A file that cannot be read safely, or that holds other weights.
    """
    checkpoint = for_openmmlab(read_checkpoint(path, map_location))
    if before is not None:
        before(checkpoint)
    try:
        load_state_dict(model, checkpoint['state_dict'], strict=strict, logger=logger)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f'checkpoint {path!r} does not fit the model of this config: '
                              f'{" ".join(lines[-2:])[:300]}') from error
    return checkpoint
