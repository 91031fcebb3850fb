"""Checkpoints that survive a crash while they are being written."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checkpoints.reading import own_run
from ..errors import CheckpointError
from ..files import commit_part, part_of, remove_parts, write_text


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, in an order that a crash cannot hurt.

    A checkpoint is written under a temporary name in its folder, flushed to the disk and renamed;
    then ``last_checkpoint`` is replaced in the same way; only then are older files removed, for
    which there must be room for one checkpoint more than ``max_keep_ckpts``. mmengine removes first
    and writes under the final name. Arguments are mmengine's. Remote storage (``backend_args``) and
    the folders that DeepSpeed, ColossalAI and sharded FSDP save are written as they always are;
    there too older ones are removed last.

    Raises:
        CheckpointError: (when saving) The file cannot be written, as on a full disk. Older
            checkpoints are intact.

    Example:
        >>> default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for folder in {str(self.out_dir), runner.work_dir}:
                remove_parts(folder)

    def _save_checkpoint(self, runner: Runner) -> None:
        super()._save_checkpoint(self._safe(runner))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(self._safe(runner), metrics)

    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        with own_run(), _explained(ckpt_path):
            super()._publish_model(runner, ckpt_path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        steps = self._steps_with(step)
        if self.max_keep_ckpts > 0:
            # with the outdated ones: if the run dies before they are removed, the resumed one
            # removes them
            runner.message_hub.update_info('keep_ckpt_ids', steps)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            with _explained(self.last_ckpt):
                write_text(os.path.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            outdated = [self.filename_tmpl.format(old) for old in steps[: -self.max_keep_ckpts]]
            self._remove([self.file_backend.join_path(self.out_dir, name) for name in outdated])

    def _steps_with(self, step: int) -> list[int]:
        if self.max_keep_ckpts <= 0:
            return []
        known = list(self.keep_ckpt_ids)
        return known if known[-1:] == [step] else [*known, step]

    def _remove(self, paths: list[str]) -> None:
        for path in paths if is_main_process() else []:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):
                self.file_backend.rmtree(path)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """mmengine removes the previous best before it saves the new one; within this, its removals wait."""
        backend = self.file_backend
        self.file_backend = waiting = _WaitingRemovals(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        self._remove([path for path in waiting.paths if path not in self._best_paths()])

    def _best_paths(self) -> list[str]:
        return [
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        ]

    def _safe(self, runner: Runner) -> Any:
        local = (
            isinstance(self.file_backend, (LocalBackend, _WaitingRemovals))
            and self.file_client_args is None
        )
        return _SafeRunner(runner) if local and _writes_one_file(runner) else runner


class _SafeRunner:
    """A runner that gives a checkpoint its name when it is whole and on the disk."""

    def __init__(self, runner: Runner):
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        path = os.path.join(out_dir, filename)
        with _explained(path):
            self._runner.save_checkpoint(out_dir, part_of(filename), *args, **kwargs)
            if is_main_process():
                commit_part(path)


class _WaitingRemovals:
    """A file backend that only notes what to remove."""

    def __init__(self, backend: Any):
        self._backend, self.paths = backend, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)

    rmtree = remove


def _writes_one_file(runner: Any) -> bool:
    strategy = getattr(runner, 'strategy', None)  # of a FlexibleRunner
    if strategy is None:
        return True
    from mmengine._strategy import SingleDeviceStrategy  # DDP's and FSDP's are kinds of it

    return (
        isinstance(strategy, SingleDeviceStrategy)
        and getattr(strategy, '_is_full_state_dict', lambda: True)()
    )


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn a failure to write into one sentence, and give its space back."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch's zip writer reports a full disk as a RuntimeError
        if isinstance(error, RuntimeError) and 'PytorchStreamWriter' not in str(error):
            raise
        if is_main_process() and os.path.isfile(part_of(path)):
            os.remove(part_of(path))
        reason = getattr(error, 'strerror', None) or str(error).splitlines()[0]
        raise CheckpointError(
            f'checkpoint {path!r} could not be written ({reason}); earlier checkpoints are intact: '
            'make room and continue with --resume'
        ) from error
