"""What all pictures share: figures, their files, colours and labels.

No pyplot, so that neither a user's backend nor a user's open figures are touched.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import UserError
from ..files import atomic_write

DPI = 144
SMALL, NORMAL = 7, 8  # points
COLORS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377', '#777777', '#222222')


def new_figure(width: float, height: float, **options) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a figure to an image file, in a folder that is made if need be.

    A file of this name is replaced once the new one is whole.

    Args:
        figure: Of :func:`new_figure`.
        file: Its suffix is the format: .png, .pdf, .svg, ...

    Returns:
        Path: The file.

    Raises:
        UserError: A folder, or a name without a suffix.
        ValueError: A format that matplotlib does not know.
        OSError: The disk does not take it.
    """
    file = Path(file)
    if file.is_dir() or not file.suffix:
        raise UserError(
            f'a figure needs the name of an image file, got {str(file)!r}; '
            f'name one, e.g. {str(file / "curves.png")!r}'
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as draft:
        figure.savefig(draft, format=file.suffix[1:].lower())
    return file


def figure_pixels(figure: Figure) -> np.ndarray:
    """A figure as an RGB image, shape (H, W, 3), uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def distinct_colors(number: int) -> list:
    """As many different colours as asked for: ``COLORS``, or more of them along a colour map."""
    if number <= len(COLORS):
        return list(COLORS[:number])
    return list(matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, number)))


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Explain everything labelled in some axes below all axes of their figure."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc='outside lower center',
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
    )


def shorten(name: str, most: int = 28) -> str:
    """A name cut in the middle to at most so many characters."""
    return name if len(name) <= most else f'{name[: most // 2 - 1]}…{name[-most // 2 :]}'


def spread_labels(positions: Sequence[float], gap: float, last: float) -> list[float]:
    """Move labels apart, so that none hides another.

    Args:
        positions: Where they belong, in ascending order.
        gap: The least distance between neighbours. Where there is no room for all of them they are
            spaced evenly.
        last: The largest position allowed; the smallest is 0.

    Returns:
        list[float]: Where to put them.
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
