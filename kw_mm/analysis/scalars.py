"""Reading what mmengine's ``LocalVisBackend`` logs of a run, over all times it was resumed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError

Curve = tuple[list[float], list[float]]  # training steps, values
COUNTERS = ('step', 'iter', 'epoch')
TIMES = ('time', 'data_time')  # of training; those of an evaluation are of other batches


def read_scalars(work_dir: str) -> dict[str, Curve]:
    """Curves of a work dir: {name: (training steps, values)}.

    A resumed run is joined to what it continues: whatever had been logged beyond the step it
    resumed from is gone, as are the weights. Scores are logged by epoch; they are placed at the
    training step that came before.

    Raises:
        UserError: No such folder, no log of training in it, or a damaged log.
    """
    if not Path(work_dir).is_dir():
        raise UserError(f'work dir {str(work_dir)!r} does not exist')
    curves: dict[str, dict[float, float]] = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        _join(curves, list(_points(file)))
    if not curves:
        raise UserError(
            f'no log of training, */vis_data/scalars.json, in {str(work_dir)!r}; is it the work '
            'dir of a training run? Its visualizer needs a LocalVisBackend'
        )
    if 'base_lr' in curves:  # the first parameter group may have a multiple of it
        curves['lr'] = curves.pop('base_lr')
    return {name: (list(points), list(points.values())) for name, points in curves.items()}


def _join(curves: dict[str, dict[float, float]], points: list[tuple[str, int, float]]) -> None:
    """Add the points (name, step, value) of a log to what earlier logs of the run hold."""
    if not points:
        return
    first = min(step for _, step, _ in points)
    for curve in curves.values():
        for step in [step for step in curve if step >= first]:
            del curve[step]
    for name, step, value in points:
        curves.setdefault(name, {})[step] = value


def _points(file: Path) -> Iterator[tuple[str, int, float]]:
    step = None
    for record in _records(file):
        step = record['step'] if 'iter' in record else step
        if step is not None:  # scores without training before them are an evaluation's
            others = COUNTERS if 'iter' in record else (*COUNTERS, *TIMES)
            for name, value in record.items():
                if isinstance(value, (int, float)) and name not in others:
                    yield name, step, value


def _records(file: Path) -> Iterator[dict[str, Any]]:
    lines = [line for line in file.read_text(errors='replace').splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):  # the last line of a run that was killed may be cut
                raise UserError(
                    f'line {number} of {str(file)!r} is damaged: {line[:60]!r}'
                ) from error
