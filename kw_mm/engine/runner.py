"""mmengine's runner, reading checkpoints with care."""
from typing import Dict

from mmengine.runner import Runner

from ..checkpoints.reading import own_run, weights_only


class KWRunner(Runner):
    """Resumes files of the user's own run in full; from any other file it reads weights and plain data alone."""

    _resuming = False

    def resume(self, *args, **kwargs) -> None:
        """Resume from a checkpoint of this run."""
        self._resuming = True
        try:
            super().resume(*args, **kwargs)
        finally:
            self._resuming = False

    def load_checkpoint(self, *args, **kwargs) -> Dict:
        """Load weights."""
        with own_run() if self._resuming else weights_only():
            return super().load_checkpoint(*args, **kwargs)
