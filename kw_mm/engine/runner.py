"""mmengine's runner, reading checkpoints with care."""
from typing import Any, Dict

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict

from ..checkpoints.convert import for_openmmlab
from ..checkpoints.reading import own_run, read_checkpoint
from ..errors import CheckpointError


class KWRunner(Runner):
    """Resumes files of the user's own run in full; from any other file it reads weights and plain data alone.

    Attributes:
        all_weights (bool): Whether a checkpoint must cover the whole model, as it must to be evaluated.
    """

    all_weights = False
    _resuming = False

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
