"""Shows, while a model trains, how its warehouses are used."""

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..warehouse import kw_layers
from .recording import AttentionRecorder, gather_attention
from .statistics import WarehouseAttention


@HOOKS.register_module()
class AttentionVisualizationHook(Hook):
    """Log the entropy of attention per warehouse, and heat maps, at regular intervals.

    It records the batch that is trained anyway, in the main process only. In all other iterations,
    and in all other processes, nothing is attached to the model and nothing is read back from the
    device.

    Scalars are called ``attention_entropy/WAREHOUSE`` (0: one cell takes all attention, 1: all
    cells alike) and ``attention_zero_cell/WAREHOUSE`` (the zero cell's share), images
    ``attention_WAREHOUSE``: mean attention over the batch of every mixture (row) to every cell.
    They go to the backends of ``visualizer``: ``LocalVisBackend`` writes
    ``vis_data/scalars.json`` and ``vis_data/vis_image/``, ``TensorboardVisBackend`` shows both.

    Args:
        interval: N iterations, or epochs, from one recording to the next. By epochs it is an
            epoch's last iteration that is recorded.
        by_epoch: Whether ``interval`` counts epochs.
        draw: Whether to draw heat maps beside the scalars.

    Raises:
        ValueError: ``interval`` is not positive, or (when training starts) the model has no KW
            layer.

    Example:
        >>> custom_hooks = [dict(type='AttentionVisualizationHook')]          # every epoch
        >>> every_500_iterations = dict(interval=500, by_epoch=False, draw=False)
        >>> custom_hooks = [dict(type='AttentionVisualizationHook', **every_500_iterations)]
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1, by_epoch: bool = True, draw: bool = True):
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(
                'interval must be a positive number of epochs or iterations, got '
                f'interval={interval!r}; use for example 1'
            )
        self.interval, self.by_epoch, self.draw = interval, by_epoch, draw
        self._model: nn.Module | None = None
        self._recorder: AttentionRecorder | None = None

    def before_train(self, runner: Runner) -> None:
        """Find the KW layers."""
        self._model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not kw_layers(self._model):
            raise ValueError(
                'AttentionVisualizationHook found no KW layer in the model; use a backbone such as '
                "type='KWResNet', or leave the hook out"
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Start recording, where this iteration is due."""
        if is_main_process() and self.is_due(runner):
            self._recorder = AttentionRecorder(kw_layers(self._model)).__enter__()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Log what was recorded."""
        if self._recorder is None:
            return
        recorder, self._recorder = self._recorder, None
        recorder.__exit__()
        self._log(runner, recorder)

    def is_due(self, runner: Runner) -> bool:
        """Whether the iteration that begins is to be recorded."""
        iterations = len(runner.train_dataloader) if self.by_epoch else 1
        return self.every_n_train_iters(runner, self.interval * iterations)

    def _log(self, runner: Runner, recorder: AttentionRecorder) -> None:
        step = runner.iter + 1
        scalars = {}
        for warehouse in gather_attention(self._model, recorder.take()):
            summary = warehouse.summary
            scalars[f'attention_entropy/{warehouse.name}'] = summary['entropy']
            scalars[f'attention_zero_cell/{warehouse.name}'] = summary['zero cell']
            if self.draw:
                runner.visualizer.add_image(
                    f'attention_{warehouse.name}', _heat_map(warehouse, step), step
                )
        runner.visualizer.add_scalars(dict(scalars, iter=step), step=step)
        entropies = [value for name, value in scalars.items() if 'entropy' in name]
        if not entropies:  # of a network whose hooks are skipped, as a compiled one's may be
            return
        mean = sum(entropies) / len(entropies)
        runner.logger.info(f'Attention of {len(entropies)} warehouses: mean entropy {mean:.3f}')


def _heat_map(warehouse: WarehouseAttention, step: int) -> np.ndarray:
    # matplotlib takes a second to import, which `import kw_mm` shall not
    from ..analysis.figures import figure_pixels
    from .maps import draw_mean

    temperature = f'temperature {warehouse.temperature:.2g}'
    return figure_pixels(draw_mean(warehouse, f'{warehouse.name}, iteration {step}, {temperature}'))
