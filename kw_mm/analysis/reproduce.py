"""The commands that train what the tables still lack: ``kw_mm reproduce``."""

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..config_files import config, installed_files
from ..errors import UserError
from ..files import check_file, write_text
from ..validation import check_count, few
from .comparability import (
    batch_of,
    changed_settings,
    epoch_images,
    is_ours,
    reference,
    why_not_comparable,
)
from .results import METAFILES, rows_of
from .training_runs import Run, find_runs

NOT_MEASURED = 'not measured'


@dataclass
class Step:
    """A training that the tables lack.

    Args:
        name: Of its config.
        needs: Name of the config whose checkpoint it starts from, None if it needs none of ours.
        checkpoint: What it starts from, as the config names it; empty for nothing.
        begun: Whether there is an unfinished run of it to go on with.
        hours: GPU hours, estimated from a measured time of an iteration; None where none was.
    """

    name: str
    needs: str | None
    checkpoint: str
    begun: bool
    hours: float | None


def reproduce(
    tables: Sequence[str] = (),
    *,
    gpus: int = 8,
    slurm: str | None = None,
    work_dirs: str = 'work_dirs',
    output: str | None = None,
) -> str:
    """A script of the trainings that the results tables lack.

    A row is done where a run below ``work_dirs`` stands beside the paper's figures
    (:func:`.comparability.why_not_comparable`). What a config starts from and has to be trained
    first comes before it.

    Args:
        tables: Of 'coco', 'imagenet' and 'ablation'; all by default.
        gpus: For each run.
        slurm: A partition of a Slurm cluster.
        work_dirs: Folder with a work dir for each config.
        output: File to write it to.

    Returns:
        str: The script.

    Raises:
        UserError: A number of GPUs that is none, or a file that cannot be written.
    """
    try:
        check_count('--gpus', gpus, 'use for example 8')
    except ValueError as error:
        raise UserError(str(error)) from error
    if output:
        check_file(output, '--output')
    runs = find_runs([work_dirs]) if os.path.isdir(work_dirs) else []
    wanted = list(dict.fromkeys(_names(tables or list(METAFILES))))
    steps = list(_steps(wanted, runs, work_dirs))
    script = _script(steps, len(wanted), gpus, slurm, work_dirs)
    if output:
        write_text(output, script)
    return script


def gpu_hours(run: Run) -> float | None:
    """GPU hours of a whole training, from the time that an iteration of a run took.

    None unless the run is on GPUs with the settings of its config, whatever its data: scales and
    batches decide what an iteration takes.
    """
    if run.seconds is None or run.card in ('', 'CPU') or changed_settings(run):
        return None
    cfg = reference(run.name)
    steps = cfg.train_cfg.max_epochs * epoch_images(run.name) / batch_of(cfg, 'train_dataloader')
    return steps * run.seconds / 3600  # each GPU takes its part of the steps


def _names(tables: Sequence[str]) -> Iterator[str]:
    for table in tables:
        for model in rows_of(table):
            yield model['Name']


def _steps(wanted: Sequence[str], runs: Sequence[Run], work_dirs: str) -> Iterator[Step]:
    done = {run.name for run in runs if is_ours(run.name) and not why_not_comparable(run)}
    planned: set[str] = set()
    for name in wanted:
        yield from _with_needed(name, runs, done, planned, work_dirs)


def _with_needed(
    name: str, runs: Sequence[Run], done: set[str], planned: set[str], work_dirs: str
) -> Iterator[Step]:
    if name in done or name in planned:
        return
    planned.add(name)
    needed, checkpoint = _started_from(name)
    if needed and not os.path.isfile(_moved(checkpoint, work_dirs)):
        yield from _with_needed(needed, runs, done, planned, work_dirs)
    own = [run for run in runs if run.name == name]
    begun = any(
        run.folder == Path(work_dirs, name) and run.state.startswith('unfinished') for run in own
    )
    hours = [estimate for run in own if (estimate := gpu_hours(run)) is not None]
    yield Step(name, needed, checkpoint, begun, min(hours, default=None))


def _started_from(name: str) -> tuple[str | None, str]:
    """The config of ours whose checkpoint a config starts from, and the checkpoint."""
    if not name.endswith('_coco'):  # ImageNet's are trained from scratch
        return None, ''
    start = reference(name).model.get('backbone', {}).get('init_cfg') or {}
    checkpoint = str(start.get('checkpoint', '')) if isinstance(start, dict) else ''
    folder = PurePosixPath(checkpoint).parent.name
    return (folder if '://' not in checkpoint and folder and is_ours(folder) else None), checkpoint


def _moved(checkpoint: str, work_dirs: str) -> str:
    """Where a checkpoint of ``work_dirs/NAME/`` is when work dirs are elsewhere."""
    return os.path.join(work_dirs, *PurePosixPath(checkpoint).parts[-2:])


def _script(steps: Sequence[Step], rows: int, gpus: int, slurm: str | None, work_dirs: str) -> str:
    measured = [step.hours for step in steps if step.hours is not None]
    total = f'{sum(measured):,.0f} GPU hours for {len(measured)} of them' if measured else ''
    published = sorted({start for step in steps if (start := step.checkpoint).startswith('kw://')})
    lines = [
        '#!/usr/bin/env bash',
        f'# {len(steps)} trainings for {rows} rows of the results tables.',
        f'# Estimated: {total or NOT_MEASURED}'
        + (f', the others {NOT_MEASURED}.' if measured and len(measured) < len(steps) else '.'),
    ]
    if published:
        lines.append(
            f'# {len(published)} published files are downloaded to start from: {few(published)}.'
        )
    lines += ['set -euo pipefail', '']
    for step in steps:
        hours = NOT_MEASURED if step.hours is None else f'about {step.hours:,.0f} GPU hours'
        after = f', after {step.needs}' if step.needs else ''
        lines += [f'# {step.name}: {hours}{after}', _command(step, gpus, slurm, work_dirs)]
    return '\n'.join(lines) + '\n'


def _command(step: Step, gpus: int, slurm: str | None, work_dirs: str) -> str:
    folder = os.path.join(work_dirs, step.name)
    tools = installed_files() / 'tools'
    path = os.path.relpath(config(step.name))
    options = ['--auto-scale-lr']
    if step.begun:
        options.append('--resume')
    if step.needs and _moved(step.checkpoint, work_dirs) != step.checkpoint:
        moved = _moved(step.checkpoint, work_dirs)
        options += ['--cfg-options', f'model.backbone.init_cfg.checkpoint={moved}']
    if slurm:
        script = os.path.relpath(tools / 'slurm_train.sh')
        words = ['bash', script, slurm, step.name, path, folder, *options]
        return f'GPUS={gpus} {shlex.join(words)}'
    if gpus == 1:
        script = os.path.relpath(tools / 'train.py')
        return shlex.join(['python', script, path, '--work-dir', folder, *options])
    script = os.path.relpath(tools / 'dist_train.sh')
    return shlex.join(['bash', script, path, str(gpus), '--work-dir', folder, *options])
