"""Loss, temperature, learning rate and scores of runs on one figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import UserError
from .figures import COLORS, NORMAL, SMALL, new_figure, save_figure
from .scalars import Curve, name_runs, read_scalars

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
    """Draw the curves of one or several runs on one figure; panels that no run has values for are left out.

    Args:
        work_dirs: Folders that ``tools/train.py`` wrote to.
        file: Image file to write.

    Returns:
        Path: The file written.

    Raises:
        UserError: A folder without a log of training, or a file that cannot be written.
    """
    runs = {name: read_scalars(folder) for name, folder in name_runs(work_dirs).items()}
    figure = draw_runs(runs)
    try:
        return save_figure(figure, file)
    except (OSError, ValueError) as error:
        raise UserError(f'{str(file)!r} cannot be written: {error}') from error


def draw_runs(runs: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """The figure of runs: {name: curves}, see :func:`kw_mm.analysis.scalars.read_scalars`.

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
    for axes, title in zip(panels, titles):
        _draw_panel(axes, title, runs)
    for axes in panels[len(titles) :]:
        axes.axis('off')
    handles = [
        axes.plot([], [], color=color)[0]
        for axes, color in zip([panels[0]] * len(runs), _colors(runs).values())
    ]
    figure.legend(
        handles, list(runs), loc='outside lower center', ncols=2, fontsize=NORMAL, frameon=False
    )
    return figure


def _draw_panel(axes: Axes, title: str, runs: Mapping[str, Mapping[str, Curve]]) -> None:
    drawn = []
    for style, (name, label) in zip(STYLES, PANELS[title].items()):
        for run, color in _colors(runs).items():
            if name in runs[run]:
                marker = '.' if len(PANELS[title]) > 1 or len(runs[run][name][0]) == 1 else None
                axes.plot(
                    *runs[run][name],
                    style,
                    color=color,
                    linewidth=1.2,
                    marker=marker,
                    clip_on=False,
                )
                drawn.append((style, label))
    if len(PANELS[title]) > 1:
        entries = dict(drawn)
        axes.legend(
            [axes.plot([], [], style, color='black')[0] for style in entries],
            list(entries.values()),
            fontsize=SMALL,
            frameon=False,
        )
    axes.set_title(title, fontsize=NORMAL + 1, loc='left')
    axes.set_xlabel('iteration', fontsize=NORMAL)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0 else 0)
    axes.tick_params(labelsize=SMALL, labelbottom=True)
    axes.grid(alpha=0.3)


def _colors(runs: Mapping[str, Mapping[str, Curve]]) -> dict[str, str]:
    return {run: COLORS[i % len(COLORS)] for i, run in enumerate(runs)}
