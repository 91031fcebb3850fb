"""Runs beside the paper's figures: ``kw_mm results``."""

import statistics
from collections.abc import Sequence
from functools import cache
from typing import Any

from mmengine.fileio import load

from ..config_files import installed_files
from ..errors import UserError
from .comparability import why_not_comparable
from .report import print_markdown, print_rich
from .results_page import update_page
from .training_runs import Run, find_runs

METAFILES = dict(
    coco='configs/metafile.yml',
    imagenet='configs/imagenet/metafile.yml',
    ablation='configs/ablation/metafile.yml',
)
# our scores by their names in the metafiles, the two that a table shows
PAPER_NAMES = {
    'box AP': 'box AP',
    'mask AP': 'mask AP',
    'Top 1 Accuracy': 'top-1',
    'Top 5 Accuracy': 'top-5',
}
DETECTION, CLASSIFICATION = ('box AP', 'mask AP'), ('top-1', 'top-5')
SIDES = ('small', 'medium', 'large')
RUN_COLUMNS = ('run', 'state', 'length', 'seed')
MEASURED = ('temperature', 's/iteration', 'memory (GiB)', 'GPU')


def results(folders: Sequence[str], *, markdown: bool = False, update: str | None = None) -> None:
    """Print the runs found in folders beside the paper's figures, and why some have none.

    Args:
        folders: Work dirs, or folders that have them below.
        markdown: Whether tables are printed in Markdown.
        update: A page whose column *ours* gets the scores of the comparable runs.

    Raises:
        UserError: There is no run, or the page cannot be updated.
    """
    if update:
        update_page(update, {})  # that there is such a page is known before runs are read
    runs = find_runs(folders)
    if not runs:
        raise UserError(
            f'there must be a training run in {", ".join(map(repr, folders))} or below, got none; '
            'name the folders that kw_mm train wrote to (work_dirs/)'
        )
    reasons = {run.folder: why_left_out(run) for run in runs}
    show = print_markdown if markdown else print_rich
    for scores in (DETECTION, CLASSIFICATION):
        of_kind = [run for run in runs if (scores == CLASSIFICATION) == is_classifier(run)]
        if of_kind:
            show(header(scores), [row_of(run, scores, not reasons[run.folder]) for run in of_kind])
            show(['run', *MEASURED], [measured(run) for run in of_kind])
    for run in runs:
        if reasons[run.folder]:
            print(f'{run.folder}: not beside the paper: {"; ".join(reasons[run.folder])}')
    if update:
        comparable = [run for run in runs if not reasons[run.folder]]
        said = update_page(update, our_figures(comparable))
        print(*(f'{update}: {line}' for line in said), sep='\n')
        if not said:
            print(f'{update}: nothing to put in')


@cache
def rows_of(table: str) -> list[dict[str, Any]]:
    """The metafile's entries of a table: 'coco', 'imagenet' or 'ablation'."""
    rows: list[dict[str, Any]] = load(installed_files() / METAFILES[table])['Models']
    return rows


@cache
def paper_figures() -> dict[str, dict[str, float]]:
    """{name of a config: {score: the paper's figure, in percent}} of all rows of our tables."""
    figures: dict[str, dict[str, float]] = {}
    for table in METAFILES:
        for model in rows_of(table):
            metrics = [result['Metrics'] for result in model.get('Results', ())]
            figures[model['Name']] = {
                PAPER_NAMES[name]: value for found in metrics for name, value in found.items()
            }
    return figures


def why_left_out(run: Run) -> list[str]:
    """Why a run does not stand beside the paper's figures; empty if it does."""
    if run.name not in paper_figures():
        return ['no row of the tables has its config']
    return why_not_comparable(run)


def is_classifier(run: Run) -> bool:
    """Whether a run's scores are those of a classifier."""
    if run.scores:
        return 'top-1' in run.scores
    return bool(run.cfg is not None and 'Classifier' in str(run.cfg.get('model', {}).get('type')))


def header(scores: Sequence[str]) -> list[str]:
    """Titles of the columns of a table of detectors, or of classifiers."""
    titles = list(RUN_COLUMNS)
    for score in scores:
        titles += [score, *(['S/M/L'] if scores == DETECTION else []), 'paper']
    return titles


def row_of(run: Run, scores: Sequence[str], comparable: bool) -> list[str]:
    """A run's row.

    Args:
        run: The run.
        scores: Those of its kind.
        comparable: Whether the paper's figures stand beside it.
    """
    length = f'{run.done}/{run.planned} {run.unit}' if run.planned else ''
    cells = [_title(run), run.state.partition(':')[0], length, _text(run.seed, '{}')]
    for score in scores:
        cells.append(_score(run, score))
        if scores == DETECTION:
            cells.append(_by_size(run, score))
        paper = paper_figures().get(run.name, {}).get(score)
        cells.append(_beside(run, score, paper) if comparable else '')
    return cells


def measured(run: Run) -> list[str]:
    """A run's row of what it took, and of the temperature at its end."""
    gpu = f'{run.processes} x {run.card}' if run.card not in ('', 'CPU') else run.card
    memory = None if run.memory is None else run.memory / 1024
    return [
        _title(run),
        _text(run.temperature, '{:g}'),
        _text(run.seconds, '{:.3f}'),
        _text(memory, '{:.1f}'),
        gpu,
    ]


def our_figures(runs: Sequence[Run]) -> dict[str, str]:
    """What the column *ours* gets: {name of a config: scores after the last epoch}.

    Of several runs of a config it is their mean, with how many they are.
    """
    figures = {}
    for name in dict.fromkeys(run.name for run in runs):
        repeated = [run for run in runs if run.name == name]
        scores = CLASSIFICATION if is_classifier(repeated[0]) else DETECTION
        means = [
            f'{statistics.fmean(run.scores[score][1] for run in repeated):{_decimals(score)}}'
            for score in scores
            if all(score in run.scores for run in repeated)
        ]
        of = f' (mean of {len(repeated)})' if len(repeated) > 1 else ''
        if means:
            figures[name] = ' / '.join(means) + of
    return figures


def _title(run: Run) -> str:
    return run.name if run.folder.name == run.name else f'{run.name} ({run.folder.name})'


def _decimals(score: str) -> str:
    return '.2f' if score in CLASSIFICATION else '.1f'


def _score(run: Run, score: str) -> str:
    if score not in run.scores:
        return ''
    best, last = (f'{value:{_decimals(score)}}' for value in run.scores[score])
    return last if best == last else f'{last} (best {best})'


def _by_size(run: Run, score: str) -> str:
    values = [run.scores.get(f'{score} {side}') for side in SIDES]
    if not any(values):
        return ''
    return '/'.join('-' if pair is None else f'{pair[1]:.1f}' for pair in values)


def _beside(run: Run, score: str, paper: float | None) -> str:
    if paper is None or score not in run.scores:
        return _text(paper, '{}')
    difference = round(run.scores[score][1], 2) - paper
    return f'{paper} ({difference:+{_decimals(score)}})'


def _text(value: Any, template: str) -> str:
    return '' if value is None else template.format(value)
