"""mmengine's runner, reading checkpoints with care."""
from typing import Any, Dict, Optional

import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..checkpoints.convert import for_openmmlab
from ..checkpoints.reading import read_checkpoint
from ..errors import CheckpointError
from .disk import full_disk_explained
from .resuming import newest_intact, reading_to_resume


class KWRunner(Runner):
    """Resumes files of the run's own work dir in full; from any other file it reads weights and plain data alone.

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

    def train(self) -> nn.Module:
        """As mmengine's.

        Raises:
            UserError: The disk is full.
        """
        with full_disk_explained():
            return super().train()

    def load_or_resume(self) -> None:
        """As mmengine's, but a damaged newest checkpoint is passed over for the one before it."""
        if self._resume and self._load_from is None and not self._has_loaded:
            self._load_from = newest_intact(self.work_dir, self.logger)
        super().load_or_resume()

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
            with reading_to_resume(filename, self.work_dir):
                return super().load_checkpoint(filename, map_location, *args, **kwargs)
        checkpoint = for_openmmlab(read_checkpoint(filename, map_location))
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        try:
            load_state_dict(model, checkpoint['state_dict'], strict=self.all_weights, logger=self.logger)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(f'checkpoint {filename!r} does not fit the model of this config: '
                                  f'{" ".join(lines[-2:])[:300]}') from error
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint
