"""Finding the checkpoint to resume from, and reading it."""

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from ..checkpoints.reading import read_checkpoint, read_own_checkpoint
from ..checkpoints.unpickling import Refused
from ..errors import CheckpointError
from ..warehouse import Warehouses

LAST_NUMBER = re.compile(r'\d+(?=\D*$)')
USUAL_NAMES = r'(?:epoch|iter)_(\d+)\.pth'


def checkpoints_of(work_dir: str) -> list[Path]:
    """Checkpoints that a run can be resumed from, newest first.

    The newest is the one that ``last_checkpoint`` names (looked for in the work dir if that was
    moved), then come files of the same name with smaller numbers. Without ``last_checkpoint``, all
    ``epoch_N.pth`` or ``iter_N.pth`` count.
    """
    newest = _last_checkpoint(Path(work_dir))
    if newest is None:
        return _numbered(Path(work_dir), USUAL_NAMES)
    number = LAST_NUMBER.search(newest.name)
    if number is None:
        return [newest]
    pattern = (
        f'{re.escape(newest.name[: number.start()])}(\\d+){re.escape(newest.name[number.end() :])}'
    )
    return [newest, *_numbered(newest.parent, pattern, smaller_than=int(number.group()))]


def _last_checkpoint(work_dir: Path) -> Path | None:
    record = work_dir / 'last_checkpoint'
    name = record.read_text().strip() if record.is_file() else ''
    if not name:
        return None
    moved = work_dir / Path(name).name
    return moved if moved.exists() and not Path(name).exists() else Path(name)


def _numbered(folder: Path, pattern: str, smaller_than: float = float('inf')) -> list[Path]:
    matches = [(re.fullmatch(pattern, path.name), path) for path in folder.glob('*')]
    found = [(int(match.group(1)), path) for match, path in matches if match]
    return [path for number, path in sorted(found, reverse=True) if number < smaller_than]


@contextmanager
def interrupt_explained(runner: Runner) -> Iterator[None]:
    """Let Ctrl-C say what a run has saved and how to continue.

    Raises:
        KeyboardInterrupt: Again, with that as its message.
    """
    try:
        yield
    except KeyboardInterrupt:
        saved = next(iter(checkpoints_of(runner.work_dir)), None)
        at = f'after iteration {runner.iter} of {runner.max_iters}'
        if saved is None:
            message = f'{at}; nothing was saved yet, the same command begins again'
        else:
            message = f'{at}; {str(saved)!r} is saved, continue with the same command and --resume'
        raise KeyboardInterrupt(message) from None


def newest_intact(work_dir: str, logger: Logger) -> str | None:
    """The newest checkpoint of a work dir that is whole; damaged ones are named in the log.

    Returns:
        str, optional: Its path; None if there are no checkpoints at all.

    Raises:
        CheckpointError: All are damaged.
    """
    paths = checkpoints_of(work_dir)
    for path in paths:
        problem = problem_of(path)
        if not problem:
            return str(path)
        logger.warning(
            f'checkpoint {str(path)!r} is skipped, {problem}; looking for the one before it'
        )
    if paths:
        raise CheckpointError(
            f'no checkpoint in {work_dir!r} is intact ({len(paths)} tried, newest '
            f'{paths[0].name!r}: {problem_of(paths[0])}); start without --resume'
        )
    return None


def problem_of(path: Path) -> str:
    """What is wrong with a checkpoint file, by its checksums and without unpickling anything.

    Returns:
        str: Empty if nothing is.
    """
    if path.is_dir():  # DeepSpeed's, whose files are its own matter
        return ''
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        return f'it cannot be read ({error.strerror or error})'
    except Exception as error:  # zipfile meets damage with many kinds of exceptions
        return f'it is truncated or damaged ({str(error) or type(error).__name__})'
    return f'it is damaged ({damaged} does not match its checksum)' if damaged else ''


def read_to_resume(path: str, work_dir: str, map_location: Any = 'cpu') -> Any:
    """Read a file of the run's own work dir in full, any other as tensors and plain data only.

    mmengine keeps the histories of logged values as objects: of a file from elsewhere they are left
    out, and moving averages in the log begin anew.

    Args:
        path: The checkpoint, a file or URL.
        work_dir: Of the run that is resumed.
        map_location: Device for the tensors, as ``torch.load`` takes it.

    Raises:
        CheckpointError: A file from elsewhere is damaged, or holds objects that would have to be
            executed.
    """
    if _is_own(path, work_dir):
        return read_own_checkpoint(path, map_location)
    try:
        return read_checkpoint(path, map_location)
    except CheckpointError as error:
        if not isinstance(error.__cause__, Refused):
            raise
        raise CheckpointError(
            f'{error}. A run of your own is read in full where its file lies in its work dir, '
            f'here {work_dir!r}'
        ) from error


def check_optimizer(optim_wrapper: Any) -> None:
    """See that an optimizer which has been given a checkpoint's state can go on with it.

    Args:
        optim_wrapper: mmengine's ``OptimWrapper`` or ``OptimWrapperDict``.

    Raises:
        CheckpointError: The state is another optimizer's.
    """
    for optimizer in _optimizers(optim_wrapper):
        lacking = sorted(set(optimizer.defaults).difference(*optimizer.param_groups))
        if lacking:
            raise CheckpointError(
                f'the optimizer in it is not {type(optimizer).__name__}: '
                f'it has no {", ".join(lacking)}'
            )


def reorder_old_state(model: nn.Module, optim_wrapper: Any) -> None:
    """Bring the state of cells into their present shape, if a checkpoint of kw_mm 0.1 was loaded.

    The state of layer scales gets that of their parameters, whose shape has become the published.

    Args:
        model: With the checkpoint's weights.
        optim_wrapper: mmengine's, with the checkpoint's state.
    """
    old = {
        parameter
        for warehouses in model.modules()
        if isinstance(warehouses, Warehouses) and warehouses.loaded_old_order
        for parameter in warehouses.parameters()
    }
    for optimizer in _optimizers(optim_wrapper):
        for parameter in old & optimizer.state.keys():
            state = optimizer.state[parameter]
            shape = parameter.transpose(0, 1).shape
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == shape:
                    state[name] = value.transpose(0, 1)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.squeeze().shape != ():
                    state[name] = value.reshape(parameter.shape)


def _optimizers(optim_wrapper: Any) -> list[torch.optim.Optimizer]:
    several = isinstance(optim_wrapper, OptimWrapperDict)
    wrappers = optim_wrapper.values() if several else [optim_wrapper]
    return [wrapper.optimizer for wrapper in wrappers]


def _is_own(path: str, work_dir: str) -> bool:
    newest = _last_checkpoint(Path(work_dir))
    # out_dir= of the hook may be elsewhere
    folders = [work_dir, *([newest.parent] if newest else [])]
    return os.path.realpath(os.path.dirname(path)) in map(os.path.realpath, folders)
