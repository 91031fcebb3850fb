"""Heat maps of a warehouse, mixtures as rows, cells as columns (paper, Fig. 3); also over a run.

Attention is signed, so colours diverge: white is 0, red positive, blue negative. Every cell and
every mixture takes the same whole number of pixels, so that none is lost among hundreds.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..analysis.figures import DPI, NORMAL, SMALL, new_figure, shorten, spread_labels
from .statistics import WarehouseAttention

COLOR_MAP, START_COLOR = 'RdBu_r', '#00a040'
LABELS, RIGHT, TOP, BOTTOM = 1.75, 0.95, 0.45, 0.5  # margins, inches
WIDEST, HIGHEST, LARGEST = 1200, 800, 22  # of the map and of a cell, pixels
MOST_MAPS = 6


def draw_mean(warehouse: WarehouseAttention, title: str = '') -> Figure:
    """Mean attention over the images of every mixture to every cell, start cells outlined.

    Args:
        warehouse: Its attention.
        title: Default: name, m_t, n, temperature and number of images.
    """
    mean = warehouse.alpha.mean(dim=0)
    figure, axes, bar = _frame(warehouse, title or str(warehouse))
    draw_map(axes, mean, map_scale(mean), bar, 'mean attention')
    mark_starts(axes, warehouse)
    return figure


def draw_difference(warehouse: WarehouseAttention, names: Sequence[str]) -> Figure:
    """Attention for the first image minus attention for the second, of every mixture to every cell.

    Args:
        warehouse: Its attention, for two images or more.
        names: Of the images.
    """
    difference = warehouse.alpha[0] - warehouse.alpha[1]
    figure, axes, bar = _frame(
        warehouse, f'{warehouse.name}: {shorten(names[0])} minus {shorten(names[1])}'
    )
    draw_map(axes, difference, map_scale(difference), bar, 'difference of attention')
    return figure


def draw_maps_of_run(checkpoints: Sequence[str], course: Sequence[WarehouseAttention]) -> Figure:
    """Mean attention in one warehouse at checkpoints of a run, in the same colours.

    Args:
        checkpoints: Their names, in the order of training; at most 6 of them are drawn.
        course: Of each checkpoint, the warehouse.
    """
    chosen = np.unique(np.linspace(0, len(course) - 1, MOST_MAPS).round().astype(int))
    means = [course[i].alpha.mean(dim=0) for i in chosen]
    scale = map_scale(torch.stack(means))
    mixtures, cells = means[0].shape
    height = float(np.clip(2.2 * mixtures / cells, 0.9, 3))
    figure = new_figure(2.2 * len(chosen) + 0.9, height + 0.8, layout='constrained')
    panels = figure.subplots(1, len(chosen) + 1, width_ratios=[1] * len(chosen) + [0.05])
    for axes, i, mean in zip(panels, chosen, means):
        draw_map(axes, mean, scale, panels[-1] if i == chosen[-1] else None, 'mean attention')
        axes.set_title(
            f'{shorten(checkpoints[i], 18)}, temperature {course[i].temperature:.2g}',
            fontsize=SMALL,
        )
        axes.set(xticks=[], yticks=[])
        for _, last in course[i].layer_rows[:-1]:
            axes.axhline(last + 0.5, color='black', linewidth=0.3)
    panels[0].set_ylabel(f'{course[0].name}: mixtures', fontsize=SMALL)
    return figure


def map_scale(values: Tensor) -> Normalize:
    """Colour scale centred on 0.

    It is logarithmic beyond the bulk of the values where a few, start cells mostly, dwarf it.
    """
    size = values.abs().flatten()
    largest = max(float(size.max()), 1e-6)
    bulk = max(float(size.kthvalue(max(1, int(0.95 * len(size)))).values), 1e-3 * largest)
    if largest < 8 * bulk:
        return Normalize(-largest, largest)
    return SymLogNorm(linthresh=bulk, linscale=1, vmin=-largest, vmax=largest)


def draw_map(
    axes: Axes, values: Tensor, scale: Normalize, bar: Axes | None = None, label: str = ''
) -> None:
    """A map in given axes, with a colour bar where there are axes for it."""
    image = axes.imshow(
        values.numpy(), cmap=COLOR_MAP, norm=scale, aspect='auto', interpolation='nearest'
    )
    if bar is not None:
        color_bar = axes.figure.colorbar(image, cax=bar)
        color_bar.set_label(label, fontsize=NORMAL)
        bar.minorticks_off()
        if isinstance(scale, SymLogNorm):
            bulk, largest = scale.linthresh, scale.vmax
            ticks = [-largest, -bulk, 0, bulk, largest]
            color_bar.set_ticks(ticks)
            color_bar.set_ticklabels([f'{tick:.2g}' for tick in ticks])
        bar.tick_params(labelsize=SMALL)


def mark_starts(axes: Axes, warehouse: WarehouseAttention) -> None:
    """Outline the cell that each mixture starts from.

    Where cells are too small for that, a line runs through them.
    """
    starts = warehouse.starts
    if not starts.any() or starts.float().mean() > 0.5:
        return
    mixtures, cells = starts.nonzero().unbind(dim=1)
    box = axes.get_window_extent()
    points = 72 / axes.figure.dpi * min(box.width / starts.shape[1], box.height / starts.shape[0])
    if points >= 3:
        outlines = [
            Rectangle((cell - 0.42, mixture - 0.42), 0.84, 0.84)
            for cell, mixture in zip(cells.tolist(), mixtures.tolist())
        ]
        axes.add_collection(
            PatchCollection(
                outlines, facecolor='none', edgecolor=START_COLOR, linewidth=min(1.2, points / 5)
            )
        )
        return
    for first, last in warehouse.layer_rows:
        own = (mixtures >= first) & (mixtures <= last)
        axes.plot(cells[own], mixtures[own], color=START_COLOR, linewidth=0.5, alpha=0.8)


def _frame(warehouse: WarehouseAttention, title: str) -> tuple[Figure, Axes, Axes]:
    """Figure, axes of a map with layers labelled, and axes of its colour bar."""
    mixtures, cells = warehouse.starts.shape
    across = max(1, min(LARGEST, WIDEST // cells))
    down = max(2, min(LARGEST, HIGHEST // mixtures, 4 * across))
    width = max(across * cells, 2.2 * DPI) / DPI
    height = max(down * mixtures / DPI, 0.14 * len(warehouse.layers), 1.2)
    whole_width, whole_height = LABELS + width + RIGHT, TOP + height + BOTTOM
    figure = new_figure(whole_width, whole_height)
    axes = figure.add_axes(
        [LABELS / whole_width, BOTTOM / whole_height, width / whole_width, height / whole_height]
    )
    bar = figure.add_axes(
        [
            (LABELS + width + 0.12) / whole_width,
            BOTTOM / whole_height,
            0.13 / whole_width,
            height / whole_height,
        ]
    )
    left = 0.1 if width < 5 else LABELS  # titles are longer than small maps
    figure.text(left / whole_width, 1 - 0.32 / whole_height, title, fontsize=NORMAL + 1)
    axes.set(xlim=(-0.5, cells - 0.5), ylim=(mixtures - 0.5, -0.5))
    axes.set_xlabel('cells', fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    _label_layers(axes, warehouse, height)
    return figure, axes, bar


def _label_layers(axes: Axes, warehouse: WarehouseAttention, height: float) -> None:
    rows, mixtures = warehouse.layer_rows, warehouse.starts.shape[0]
    axes.set_yticks([])
    for _, last in rows[:-1]:
        axes.axhline(last + 0.5, color='black', linewidth=0.4)
    centres = [(first + last) / 2 for first, last in rows]
    places = spread_labels(centres, 0.125 * mixtures / height, mixtures - 1)
    for text, centre, place in zip(warehouse.layer_labels, centres, places):
        axes.annotate(
            shorten(text),
            xy=(0, centre),
            xytext=(-14, place),
            xycoords=('axes fraction', 'data'),
            textcoords=('offset points', 'data'),
            fontsize=SMALL,
            ha='right',
            va='center',
            annotation_clip=False,
            arrowprops=dict(arrowstyle='-', linewidth=0.4, color='gray', shrinkA=1, shrinkB=0),
        )
