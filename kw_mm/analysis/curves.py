"""Loss, temperature, learning rate and scores of runs on one figure.

The values are those that mmengine's ``LocalVisBackend`` logs.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import UserError
from ..files import check_file
from ..validation import few
from .figures import NORMAL, SMALL, distinct_colors, new_figure, save_figure
from .scalars import Curve, read_scalars

Band = tuple[list[float], list[float], list[float]]  # training steps, lowest and highest values
PANELS: dict[str, dict[str, str]] = {
    'loss': {'loss': 'loss'},
    'temperature': {'temperature': 'temperature'},
    'learning rate': {'lr': 'learning rate'},
    'box AP': {'coco/bbox_mAP': 'AP', 'coco/bbox_mAP_50': 'AP50'},
    'mask AP': {'coco/segm_mAP': 'AP', 'coco/segm_mAP_50': 'AP50'},
    'accuracy (%)': {'accuracy/top1': 'top-1', 'accuracy/top5': 'top-5'},
}
STYLES = ('-', '--')
COLUMNS = 3


def plot_runs(work_dirs: Sequence[str], file: str) -> Path:
    """Draw the curves of runs on one figure; panels that no run has values for are left out.

    Args:
        work_dirs: Folders that ``tools/train.py`` wrote to, or ``NAME=FOLDER,FOLDER,...`` for
            repetitions of a run with other seeds, of which mean and range are drawn.
        file: Image file to write.

    Returns:
        Path: The file written.

    Raises:
        UserError: A folder without a log of training, after the others are drawn, or a file that
            cannot be written.
    """
    check_file(file, '--out')
    arguments = [_named(argument) for argument in work_dirs]
    groups = {
        name: [folder] for name, folder in name_runs([f for n, f in arguments if not n]).items()
    }
    groups.update({name: folders.split(',') for name, folders in arguments if name})
    runs, bands, problems = {}, {}, []
    for name, folders in groups.items():
        try:
            repetitions = [read_scalars(folder) for folder in folders]
        except UserError as error:
            problems.append(str(error))
            continue
        if len(repetitions) == 1:
            runs[name] = repetitions[0]
        else:
            runs[name], bands[name] = summarise(repetitions)
    if not runs:
        raise UserError(few(problems))
    figure = draw_runs(runs, bands)
    try:
        path = save_figure(figure, file)
    except (OSError, ValueError) as error:
        raise UserError(f'{str(file)!r} cannot be written: {error}') from error
    if problems:
        raise UserError(f'{path} is without what could not be read: {few(problems)}')
    return path


def name_runs(work_dirs: Sequence[str]) -> dict[str, str]:
    """Name runs by their folders, with as many parts of the paths as tell them apart.

    Args:
        work_dirs: Paths of folders; one that is given twice counts once.

    Returns:
        dict: {name: work dir}, in the order given.
    """
    paths = list(dict.fromkeys(Path(folder).resolve() for folder in work_dirs))
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return {'/'.join(path.parts[-parts:]): str(path) for path in paths}


def _named(argument: str) -> tuple[str, str]:
    """(name, folders) of ``NAME=FOLDER,...``; a folder has no name of its own."""
    name, mark, folders = str(argument).partition('=')
    return (name, folders) if mark and not Path(argument).exists() else ('', str(argument))


def summarise(
    repetitions: Sequence[Mapping[str, Curve]],
) -> tuple[dict[str, Curve], dict[str, Band]]:
    """Mean and range of repeated runs, at the steps that all of them have logged.

    Args:
        repetitions: The curves of each, as :func:`read_scalars` returns them.
    """
    curves, bands = {}, {}
    for name in set.intersection(*map(set, repetitions)):
        points = [dict(zip(*run[name])) for run in repetitions]
        steps = sorted(set.intersection(*map(set, points)))
        values = [[run[step] for run in points] for step in steps]
        curves[name] = steps, [sum(at_step) / len(at_step) for at_step in values]
        bands[name] = steps, [*map(min, values)], [*map(max, values)]
    return curves, bands


def draw_runs(
    runs: Mapping[str, Mapping[str, Curve]], bands: Mapping[str, Mapping[str, Band]] | None = None
) -> Figure:
    """The figure of runs.

    Args:
        runs: {name: curves}, the curves as :func:`read_scalars` returns them.
        bands: {name: bands} of runs that are means of several.

    Raises:
        UserError: Runs that logged none of the scalars in ``PANELS``.
    """
    titles = [
        title
        for title, names in PANELS.items()
        if any(name in curves for curves in runs.values() for name in names)
    ]
    if not titles:
        raise UserError(f'{", ".join(runs)} logged neither loss nor scores')
    columns = min(len(titles), COLUMNS)
    rows = math.ceil(len(titles) / columns)
    figure = new_figure(4 * columns, 2.9 * rows + 0.3, layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    colors = dict(zip(runs, distinct_colors(len(runs))))
    for axes, title in zip(panels, titles):
        _draw_panel(axes, title, runs, bands or {}, colors)
    for axes in panels[len(titles) :]:
        axes.axis('off')
    handles = [panels[0].plot([], [], color=color)[0] for color in colors.values()]
    figure.legend(
        handles, list(runs), loc='outside lower center', ncols=2, fontsize=NORMAL, frameon=False
    )
    return figure


def _draw_panel(
    axes: Axes,
    title: str,
    runs: Mapping[str, Mapping[str, Curve]],
    bands: Mapping[str, Mapping[str, Band]],
    colors: Mapping[str, Any],
) -> None:
    drawn = {}
    for style, (name, label) in zip(STYLES, PANELS[title].items()):
        for run, curves in runs.items():
            if name in curves:
                marker = '.' if len(PANELS[title]) > 1 or len(curves[name][0]) == 1 else None
                line = dict(color=colors[run], linewidth=1.2, marker=marker, clip_on=False)
                axes.plot(*curves[name], style, **line)
                drawn[style] = label
            if name in bands.get(run, {}):
                axes.fill_between(*bands[run][name], color=colors[run], alpha=0.2, linewidth=0)
    if len(PANELS[title]) > 1:
        handles = [axes.plot([], [], style, color='black')[0] for style in drawn]
        axes.legend(handles, list(drawn.values()), fontsize=SMALL, frameon=False)
    axes.set_title(title, fontsize=NORMAL + 1, loc='left')
    axes.set_xlabel('iteration', fontsize=NORMAL)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0 else 0)
    axes.tick_params(labelsize=SMALL, labelbottom=True)
    axes.grid(alpha=0.3)
