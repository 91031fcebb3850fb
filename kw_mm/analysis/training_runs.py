"""Training runs as their work dirs tell of them: how far, how fast, on what, and how good."""

import math
import os
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import UserError, one_line
from ..run_config import UNREADABLE
from .scalars import Curve, read_scalars

STAMP = re.compile(r'\d{8}_\d{6}')  # of a start of mmengine's runner: a folder in the work dir
EPOCH = re.compile(r'Epoch\(train\) +\[ *(\d+)\]\[ *(\d+)/(\d+)\]')
ITERATION = re.compile(r'Iter\(train\) +\[ *(\d+)/(\d+)\]')
EVALUATION = re.compile(r'(?:Epoch|Iter)\(val\) +\[ *(\d+)\]\[ *(\d+)/(\d+)\]')
SAVED = re.compile(r'Saving checkpoint at (\d+) (?:epochs|iterations)')
SEED = re.compile(r'^ +seed: (\d+)$', re.MULTILINE)
CARD = re.compile(r'^ +GPU [\d,]+: (.+)$', re.MULTILINE)
CARDS = re.compile(r'^ +GPU number: (\d+)$', re.MULTILINE)
SCORES = {
    'box AP': 'coco/bbox_mAP',
    'box AP small': 'coco/bbox_mAP_s',
    'box AP medium': 'coco/bbox_mAP_m',
    'box AP large': 'coco/bbox_mAP_l',
    'mask AP': 'coco/segm_mAP',
    'mask AP small': 'coco/segm_mAP_s',
    'mask AP medium': 'coco/segm_mAP_m',
    'mask AP large': 'coco/segm_mAP_l',
    'top-1': 'accuracy/top1',
    'top-5': 'accuracy/top5',
}
FINISHED = 'finished'


@dataclass
class Run:
    """A training run.

    Args:
        folder: Its work dir.
        name: Of its config.
        cfg: The config that ran, None where it cannot be read.
        state: 'finished', or what it is instead, in a few words.
        unit: What its length is counted in, 'epochs' or 'iterations'.
        done, planned: Its length so far, and as configured.
        batches: Of a training epoch; 0 where it is not known.
        val_batches: Of an evaluation.
        seed: None where none is logged.
        card: Name of the GPU, 'CPU' without one.
        processes: Number of them, a GPU for each.
        scores: {score: (best, last)} in percent.
        temperature: The last one logged, None without a temperature hook.
        seconds: Of an iteration, the median; None where none is logged.
        memory: The peak in MiB of a GPU, None on a CPU.
    """

    folder: Path
    name: str
    cfg: Config | None
    state: str
    unit: str = 'epochs'
    done: int = 0
    planned: int = 0
    batches: int = 0
    val_batches: int = 0
    seed: int | None = None
    card: str = ''
    processes: int = 1
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    temperature: float | None = None
    seconds: float | None = None
    memory: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it ran to its end, last evaluation included."""
        return self.state == FINISHED


def find_runs(folders: Sequence[str]) -> list[Run]:
    """The training runs in folders and below them, by path; evaluations are none.

    Raises:
        UserError: A folder that does not exist.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f'work dir {str(folder)!r} does not exist')
        for place, inner, _ in os.walk(folder):
            starts = [name for name in inner if STAMP.fullmatch(name)]
            inner[:] = sorted(name for name in inner if name not in starts)
            if starts and _starts(Path(place)):
                found[Path(place)] = None
    return [read_run(folder) for folder in found]


def read_run(folder: Path) -> Run:
    """What a work dir tells of its run; of one that was resumed, over all of its starts."""
    starts = _starts(folder)
    logs = [text for start in starts for text in _logs(start)]
    cfg, name, problem = _config(folder, starts)
    run = Run(folder, name, cfg, problem)
    if cfg is not None:
        length = cfg.get('train_cfg') or {}
        run.unit = 'epochs' if length.get('max_epochs') else 'iterations'
        run.planned = length.get('max_epochs') or length.get('max_iters') or 0
    evaluated = _read_logs(run, logs)
    try:
        curves = read_scalars(str(folder))
    except UserError as error:
        curves = {}
        problem = problem or ('' if 'no log of training' in str(error) else str(error))
    _read_curves(run, curves)
    run.state = problem or _state(run, curves, evaluated, _last_written(starts))
    return run


def _starts(folder: Path) -> list[Path]:
    """Folders of the starts of training in a work dir, oldest first.

    ``tools/test.py`` leaves such folders, too. What died before its first logged iteration counts
    where nothing else is there.
    """
    starts = [path for path in sorted(folder.iterdir()) if STAMP.fullmatch(path.name)]
    logs = {start: ''.join(_logs(start)) for start in starts}
    trained = [start for start in starts if '(train) ' in logs[start]]
    return trained or [start for start in starts if logs[start] and '(test) ' not in logs[start]]


def _logs(start: Path) -> Iterator[str]:
    for path in sorted(start.glob('*.log')):
        yield path.read_text(encoding='utf-8', errors='replace')


def _config(folder: Path, starts: Sequence[Path]) -> tuple[Config | None, str, str]:
    """(config, its name, what is wrong with it) of the last training in a work dir.

    The file in the work dir itself, from which it has its name, is of the last run of any tool.
    """
    dumped = sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    trained = [path for start in starts for path in start.glob('vis_data/config.py')]
    name = dumped[-1].stem if dumped else folder.name
    files = [*dumped, *trained]
    if not files:
        return None, name, 'unknown: its config is not in the work dir'
    try:
        return Config.fromfile(files[-1], import_custom_modules=False), name, ''
    except UNREADABLE as error:
        return None, name, f'unknown: its config cannot be read ({one_line(error)})'


def _read_logs(run: Run, logs: Sequence[str]) -> int:
    """Fill in what the text logs say; how long the run was when it was evaluated last."""
    evaluated = 0
    for text in logs:
        for pattern, attribute, convert in (
            (SEED, 'seed', int),
            (CARD, 'card', str),
            (CARDS, 'processes', int),
        ):
            if match := pattern.search(text):
                setattr(run, attribute, convert(match[1]))
        run.card = run.card or ('CPU' if 'CUDA available: False' in text else '')
        if match := _last(EPOCH, text):
            run.batches = int(match[3])
            run.done = int(match[1]) - (int(match[2]) < run.batches)
        elif match := _last(ITERATION, text):
            run.done = int(match[1])
        if match := _last(SAVED, text):  # the last iterations of an epoch may not be logged
            run.done = max(run.done, int(match[1]))
        if match := _last(EVALUATION, text):
            evaluated, run.val_batches = int(match[1]), int(match[3])
    return evaluated


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(list(pattern.finditer(text))[-1:]), None)


def _read_curves(run: Run, curves: dict[str, Curve]) -> None:
    for name, key in SCORES.items():
        values = curves.get(key, ([], []))[1]
        if values and max(values) >= 0:  # COCO's AP is -1 where there is nothing to find
            scale = 1 if key.startswith('accuracy') else 100
            run.scores[name] = (scale * max(values), scale * values[-1])
    last = {key: curves[key][1][-1] for key in ('temperature',) if key in curves}
    run.temperature = last.get('temperature')
    if 'time' in curves:
        run.seconds = statistics.median(curves['time'][1])
    if 'memory' in curves:
        run.memory = max(curves['memory'][1])


def _state(run: Run, curves: dict[str, Curve], evaluated: int, written: datetime) -> str:
    if not curves:
        return 'failed: no iteration was logged'
    for step, loss in zip(*curves.get('loss', ([], []))):
        if not math.isfinite(loss):
            return f'failed: the loss is {loss} from iteration {step:g} on'
    last = f'last written {written:%Y-%m-%d %H:%M}'
    if run.done < run.planned:
        return f'unfinished: {run.done} of {run.planned} {run.unit}, {last}'
    if _is_evaluated(run.cfg) and evaluated < run.planned:
        return f'unfinished: without the last evaluation, {last}'
    return FINISHED


def _is_evaluated(cfg: Any) -> bool:
    return bool(cfg is not None and cfg.get('val_cfg') and cfg.get('val_dataloader'))


def _last_written(starts: Sequence[Path]) -> datetime:
    files = [path for start in starts for path in [start, *start.rglob('*')]]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in files))
