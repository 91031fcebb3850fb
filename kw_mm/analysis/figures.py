"""Figures that belong to nobody: no pyplot, so that neither a user's backend nor open figures are touched."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import UserError

DPI = 144
SMALL, NORMAL = 7, 8  # points
COLORS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377', '#777777', '#222222')


def new_figure(width: float, height: float, **options) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a figure to an image file, in a folder that is made.

    Raises:
        UserError: A folder, or a name without an ending.
    """
    file = Path(file)
    if file.is_dir() or not file.suffix:
        raise UserError(
            f'{str(file)!r} is no name of an image file; name one, e.g. {str(file / "curves.png")!r}'
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file


def figure_pixels(figure: Figure) -> np.ndarray:
    """A figure as an RGB image, shape (H, W, 3), uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def spread_labels(positions: Sequence[float], gap: float, last: float) -> list[float]:
    """Move sorted positions apart until neighbours are ``gap`` from each other, and none is beyond ``last``.

    Where there is no room for all of them they are spaced evenly.
    """
    if len(positions) > 1 and gap * (len(positions) - 1) > last:
        return np.linspace(0, last, len(positions)).tolist()
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + gap) if moved else max(position, 0.0))
    limit = last
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved
