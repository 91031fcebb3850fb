"""mmengine's runner, reading checkpoints with care."""
from typing import Any, Dict, Optional

import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..checkpoints.reading import own_run
from .weights import load_weights


class KWRunner(Runner):
    """Resumes files of the user's own run in full; from any other file it reads weights and plain data alone.

    Attributes:
        all_weights (bool): Whether a checkpoint must cover the whole model, as it must to be evaluated.
    """

    all_weights = False
    _resuming = False

    def wrap_model(self, model_wrapper_cfg: Optional[Dict], model: nn.Module) -> nn.Module:
        """As mmengine's, which asks for a GPU of every process; here CPU processes (gloo) will do as well."""
        if model_wrapper_cfg is None and self.distributed and not torch.cuda.is_available():
            unused = self.cfg.get('find_unused_parameters', False)
            return MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=unused)
        return super().wrap_model(model_wrapper_cfg, model)

    def resume(self, *args, **kwargs) -> None:
        """Resume from a checkpoint of this run."""
        self._resuming = True
        try:
            super().resume(*args, **kwargs)
        finally:
            self._resuming = False

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', *args, **kwargs) -> Dict:
        """Load weights, in any layout.

        Raises:
            CheckpointError: A file that cannot be read safely or holds other weights.
        """
        if self._resuming:
            with own_run():
                return super().load_checkpoint(filename, map_location, *args, **kwargs)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        checkpoint = load_weights(model, filename, map_location=map_location, strict=self.all_weights, logger=self.logger,
                                  before=lambda content: self.call_hook('after_load_checkpoint', checkpoint=content))
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint
