"""A progress bar with the time left, on a terminal."""

import logging
import sys
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..run_config import SPLIT_TITLES
from .screen import is_screen


class ProgressHook(Hook):
    """Shows how far training, validation and testing are, below the log lines.

    The runner adds it by itself where the output is a terminal: a file or a pipe gets log lines
    only.

    Args:
        console: Where to draw; the terminal by default.
    """

    priority = 'VERY_LOW'

    def __init__(self, console: Console | None = None):
        self._console = console
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._streams: list[tuple[logging.StreamHandler, Any]] = []

    def before_train(self, runner: Runner) -> None:
        self._begin(runner, 'train', runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        text = f'{SPLIT_TITLES["train"]}, epoch {runner.epoch + 1}/{runner.max_epochs}'
        self._move('train', runner.iter + 1, text)

    def after_train(self, runner: Runner) -> None:
        self.close()

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin(runner, 'val', len(runner.val_dataloader))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._move('val', batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._end('val')

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin(runner, 'test', len(runner.test_dataloader))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._move('test', batch_idx + 1)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._end('test')

    def close(self) -> None:
        """Take the bar away and give log lines back their stream; may be called at any time."""
        progress, self._progress = self._progress, None
        self._tasks.clear()
        if progress:
            progress.stop()
        for handler, stream in self._streams:
            handler.setStream(stream)
        self._streams.clear()

    def _begin(self, runner: Runner, kind: str, total: int, done: int = 0) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn('{task.description}'),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn('eta'),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._lift_log_lines(runner.logger)
        self._tasks[kind] = self._progress.add_task(SPLIT_TITLES[kind], total=total, completed=done)

    def _lift_log_lines(self, logger: logging.Logger) -> None:
        """Send log lines through rich, which prints them above the bar."""
        for handler in logger.handlers:
            if is_screen(handler):
                self._streams.append((handler, handler.stream))
                handler.setStream(sys.stdout)  # rich's, while the bar is there

    def _move(self, kind: str, done: int, text: str | None = None) -> None:
        if self._progress and kind in self._tasks:
            self._progress.update(self._tasks[kind], completed=done, description=text)

    def _end(self, kind: str) -> None:
        if self._progress and kind in self._tasks:
            self._progress.remove_task(self._tasks.pop(kind))
            if not self._tasks:
                self.close()


def has_terminal() -> bool:
    """Whether this process's output is read on a terminal, which a progress bar needs."""
    return is_main_process() and sys.stdout.isatty()
