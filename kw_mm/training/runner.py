"""mmengine's runner, reading checkpoints with care."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn
from torch.utils.data import DataLoader

from ..building import building
from ..checkpoints.loading import load_model_state, read_model_checkpoint
from ..command_line import advice_on
from ..errors import CheckpointError, one_line
from ..run_config import annotation_path, walk_datasets
from .data_checks import check_classes, check_metrics, check_training_data
from .datasets import build_dataset
from .diagnosis import full_disk_explained
from .model_checks import check_model
from .progress_hook import ProgressHook, has_terminal
from .resuming import check_optimizer, newest_intact, read_to_resume, reorder_old_state
from .run_summary import RunSummaryHook
from .schedule_checks import best_checkpoint_faults, odd_temperatures, schedule_faults
from .screen import quiet_screen, without_pycocotools

MOST_LISTED = 400  # characters of torch's list of what does not fit


class KWRunner(Runner):
    """mmengine's runner, whose errors name the part of the config or the file to fix.

    It resumes files of the run's own work dir in full; from any other file it reads only weights
    and plain data.

    Attributes:
        all_weights (bool): Whether a checkpoint must cover the whole model, as it must to be
            evaluated.
    """

    all_weights = False
    _resuming = False

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'KWRunner':
        """Build a runner.

        Raises:
            ConfigError: A part that cannot be built; it names the part.
        """
        with building('config'):
            return super().from_cfg(cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As mmengine's; config, environment, hooks and rates of parameters go to the file only."""
        logger = super().build_logger(*args, **kwargs)
        quiet_screen(logger)
        return logger

    def build_model(self, model: Any) -> nn.Module:
        with building('model'):
            model = super().build_model(model)
        check_model(model)
        return model

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        with building('optim_wrapper', optim_wrapper):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        with building('param_scheduler', scheduler):
            built = super().build_param_scheduler(scheduler)
        for fault in schedule_faults(built, self.train_loop):
            self.logger.warning(fault)
        return built

    def build_evaluator(self, evaluator: Any) -> Any:
        with building('evaluator', evaluator), without_pycocotools():
            return super().build_evaluator(evaluator)

    @staticmethod
    def build_dataloader(dataloader: Any, *args, **kwargs) -> DataLoader:
        with building(f'dataloader of {_annotations(dataloader)}'), without_pycocotools():
            if isinstance(dataloader, dict) and isinstance(dataloader.get('dataset'), dict):
                checked = dict(type=build_dataset, cfg=dataloader['dataset'])
                dataloader = {**dataloader, 'dataset': checked}
            return Runner.build_dataloader(dataloader, *args, **kwargs)

    def build_train_loop(self, loop: Any) -> Any:
        with building('train_cfg', loop):
            loop = super().build_train_loop(loop)
        check_training_data(loop.dataloader, self.model)
        return loop

    def build_val_loop(self, loop: Any) -> Any:
        with building('val_cfg', loop):
            loop = super().build_val_loop(loop)
        check_classes(loop.dataloader.dataset, self.model)
        check_metrics(loop.evaluator.metrics, loop.dataloader.dataset)
        return loop

    def build_test_loop(self, loop: Any) -> Any:
        with building('test_cfg', loop):
            loop = super().build_test_loop(loop)
        check_classes(loop.dataloader.dataset, self.model)
        check_metrics(loop.evaluator.metrics, loop.dataloader.dataset)
        return loop

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes.

        mmengine asks for a GPU of each; here CPU processes (gloo) will do as well.
        """
        if model_wrapper_cfg is None and self.distributed and not torch.cuda.is_available():
            unused = self.cfg.get('find_unused_parameters', False)
            return MMDistributedDataParallel(
                model, broadcast_buffers=False, find_unused_parameters=unused
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def train(self) -> nn.Module:
        """As mmengine's.

        Raises:
            UserError: The disk is full.
        """
        if not any(isinstance(hook, RunSummaryHook) for hook in self.hooks):
            self.register_hook(RunSummaryHook())
        with full_disk_explained(), self._progress():
            model = super().train()
        for fault in best_checkpoint_faults(self):
            self.logger.warning(fault)
        return model

    def test(self) -> dict[str, float]:
        """As mmengine's, with a progress bar on a terminal."""
        with self._progress():
            return super().test()

    @contextmanager
    def _progress(self) -> Iterator[None]:
        """A progress bar where there is a terminal."""
        if not has_terminal():
            yield
            return
        bar = ProgressHook()
        self.register_hook(bar)
        try:
            yield
        finally:
            bar.close()

    def load_or_resume(self) -> None:
        """As mmengine's, but a damaged newest checkpoint is passed over for the one before it."""
        if self._resume and self._load_from is None and not self._has_loaded:
            self._load_from = newest_intact(self.work_dir, self.logger)
        super().load_or_resume()

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume from a checkpoint of this run.

        Raises:
            CheckpointError: A damaged file, one that holds only weights, or one of another model
                or optimizer.
        """
        self._resuming = True
        try:
            super().resume(filename, *args, **kwargs)
            check_optimizer(self.optim_wrapper)
            reorder_old_state(self.model, self.optim_wrapper)
        except Exception as error:  # a damaged file can bring torch's reader to raise anything
            if advice_on(error) and not isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f'--resume cannot continue from {filename!r} ({one_line(error)[:MOST_LISTED]}); it '
                'takes a whole checkpoint of this very model, others begin a new run with '
                '--cfg-options load_from=FILE'
            ) from error
        finally:
            self._resuming = False

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', *args, **kwargs) -> dict:
        """Load weights, in any layout.

        Raises:
            CheckpointError: A file that cannot be read safely or holds other weights.
        """
        if self._resuming:
            checkpoint = read_to_resume(filename, self.work_dir, map_location)
        else:
            checkpoint = read_model_checkpoint(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if self._resuming:
            _load_checkpoint_to_model(model, checkpoint, strict=True)
        else:
            load_model_state(
                model, checkpoint, filename, strict=self.all_weights, logger=self.logger
            )
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        if self.all_weights:
            for value in odd_temperatures(model):
                self.logger.warning(
                    f'evaluated at temperature {value:g}, at which the checkpoint was saved: '
                    'kernels are still between the plain and the dynamic ones'
                )
        return checkpoint


def _annotations(dataloader: Any) -> str:
    """The annotation file of a dataloader's config, or its dataset's type where it names none."""
    dataset = (dataloader.get('dataset') if isinstance(dataloader, dict) else None) or {}
    if not isinstance(dataset, dict):
        return type(dataset).__name__
    files = (annotation_path(part) for _, part in walk_datasets(dataset) if part.get('ann_file'))
    return next(map(repr, files), str(dataset.get('type')))
