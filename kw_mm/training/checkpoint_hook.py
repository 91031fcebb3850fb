"""Checkpoints that survive a crash while they are being written."""

import hashlib
import os
import pickle
import re
from collections import deque

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, save_checkpoint

from ..checkpoints.reading import read_own_checkpoint
from ..files import remove_parts, write_text
from .file_backends import ATOMIC, AtomicLocalBackend, checkpoint_written


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, in an order that a crash cannot hurt.

    A checkpoint gets its name when it is whole and on the disk (:class:`AtomicLocalBackend`); then
    ``last_checkpoint`` is replaced in the same way; only then are older files removed, for which
    there must be room for one checkpoint more than ``max_keep_ckpts``. mmengine removes first and
    writes under the final name. Arguments are mmengine's. Remote storage (``backend_args``) and
    what a ``FlexibleRunner``'s strategy saves, past all backends, are written as they always are;
    there too older ones are removed last.

    Raises:
        CheckpointError: (when saving) The file cannot be written, as on a full disk. Older
            checkpoints are intact.

    Example:
        >>> default_hooks = dict(
        ...     checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def before_train(self, runner: Runner) -> None:
        if self.file_client_args is None:
            folder = self.out_dir or runner.work_dir
            if type(get_file_backend(folder, backend_args=self.backend_args)) is LocalBackend:
                self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        if is_main_process():
            local = isinstance(self.file_backend, AtomicLocalBackend)
            for folder in {runner.work_dir, *([str(self.out_dir)] if local else [])}:
                remove_parts(folder, *self._written)

    @property
    def _written(self) -> tuple[str, ...]:
        """Patterns of the names of what the hook writes."""
        numbered = re.sub(r'\{.*?\}', '*', self.filename_tmpl)
        return 'last_checkpoint', '*.pth', numbered, f'best_*_{numbered}'

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
            with checkpoint_written(self.last_ckpt):
                write_text(os.path.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            for old in steps[: -self.max_keep_ckpts]:
                self._remove(
                    self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
                )

    def _steps_with(self, step: int) -> list[int]:
        if self.max_keep_ckpts <= 0:
            return []
        known = list(self.keep_ckpt_ids)
        return known if known[-1:] == [step] else [*known, step]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save what has become the best; what it replaces goes afterwards.

        mmengine removes a previous best before it saves the new one, so it is told of none.
        """
        if not self.save_best:
            return
        previous = self._best
        self._best = dict.fromkeys(previous)
        super()._save_best_checkpoint(runner, metrics)
        saved = self._best
        self._best = {key: saved[key] or path for key, path in previous.items()}
        for key, path in previous.items():
            if path and saved[key] not in (None, path) and self._remove(path):
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    @property
    def _best(self) -> dict[str, str | None]:
        """Paths of the best checkpoints by metric, of which mmengine keeps a single one apart."""
        if len(self.save_best) == 1:
            return {self.save_best[0]: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if len(self.save_best) == 1:
            self.best_ckpt_path = paths[self.save_best[0]]
        else:
            self.best_ckpt_path_dict.update(paths)

    def _remove(self, path: str) -> bool:
        """Remove a file, or the folder that DeepSpeed saves; whether there was one."""
        if not is_main_process():
            return False
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)
        else:
            return False
        return True

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str) -> None:
        """As mmengine's, which cannot read its own checkpoints with torch 2.6 and later."""
        with self.file_backend.get_local_path(ckpt_path) as path:
            checkpoint = read_own_checkpoint(path, map_location=None)
        published = {key: checkpoint[key] for key in checkpoint if key in self.published_keys}
        removed = [key for key in checkpoint if key not in published]
        if removed:
            runner.logger.info(
                f'Key {removed} will be removed because they are not found in published_keys. If '
                f'you want to keep them, please set `{removed}` in published_keys'
            )
        sha = hashlib.sha256(pickle.dumps(published)).hexdigest()
        path = f'{os.path.splitext(ckpt_path)[0]}-{sha[:8]}.pth'
        save_checkpoint(published, path, self.file_client_args, self.backend_args)
        runner.logger.info(f'The checkpoint ({ckpt_path}) is published to {path}.')
