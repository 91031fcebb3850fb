"""Plots of attention.

Of one warehouse its distribution per mixture and which layers use which cells; of all warehouses
their course over a run and the difference between two images.
"""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..analysis.figures import (
    COLORS,
    NORMAL,
    SMALL,
    distinct_colors,
    legend_below,
    new_figure,
    shorten,
    spread_labels,
)
from .samples import Sample
from .statistics import WarehouseAttention

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
SHARES = ('own', 'others', 'zero cell')
COURSES = {  # numbers of a warehouse and the titles of their panels
    'temperature': 'temperature',
    'entropy': 'entropy of attention, 1 = equal',
    'start cells': 'share of start cells',
    'zero cell': 'share of the zero cell',
}


def draw_distribution(warehouse: WarehouseAttention) -> Figure:
    """Distribution of alpha for every mixture, over its cells and the images.

    Bands hold 98% and 50% of the values of all cells but the start cell, a line is their median.
    Start cell and zero cell, which stand apart, are marks at their means.
    """
    bands = _quantiles(warehouse)  # (5, m_t)
    mixtures = bands.shape[1]
    width = min(max(6.5, 0.045 * mixtures, 0.26 * len(warehouse.layers)), 15)
    figure = new_figure(width, 4.2, layout='constrained')
    axes = figure.add_subplot()
    edges, steps = torch.arange(mixtures + 1) - 0.5, torch.cat([bands, bands[:, -1:]], dim=1)
    shape = dict(step='post', linewidth=0, color=COLORS[0])
    axes.fill_between(edges, steps[0], steps[4], alpha=0.25, label='98% of the values', **shape)
    axes.fill_between(edges, steps[1], steps[3], alpha=0.6, label='50%', **shape)
    axes.step(edges, steps[2], where='post', color='black', linewidth=0.8, label='median')
    axes.axhline(0, color='black', linewidth=0.4)
    marks = _draw_marks(axes, warehouse)
    _fit_scale(axes, float(bands.abs().max()), marks)
    for _, last in warehouse.layer_rows[:-1]:
        axes.axvline(last + 0.5, color='gray', linewidth=0.4)
    _label_columns(axes, warehouse, width)
    axes.set_title(str(warehouse), fontsize=NORMAL + 1, loc='left')
    axes.set_ylabel('attention', fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    legend_below(figure, axes, columns=5)
    return figure


def draw_usage(warehouse: WarehouseAttention) -> Figure:
    """Which cells each layer uses.

    On the left its attention to every cell, on the right what goes to its own cells, to others' and
    to the zero cell. Colours are multiples of what equal shares would give a cell; a bracket marks
    cells that were given to the layer when the warehouse was made.
    """
    share = warehouse.shares
    rows = torch.stack(
        [share[first : last + 1].mean(dim=0) for first, last in warehouse.layer_rows]
    )
    layers, owners = len(rows), warehouse.owners
    figure = new_figure(10.5, max(0.75 + 0.17 * layers, 1.9), layout='constrained')
    grid = figure.add_gridspec(1, 2, width_ratios=(3.4, 1))
    axes, bars = (figure.add_subplot(part) for part in grid)
    multiples = rows[:, : warehouse.num_cells] * share.shape[1]
    image = axes.imshow(
        multiples.numpy(), cmap='magma_r', vmin=0, aspect='auto', interpolation='nearest'
    )
    figure.colorbar(image, ax=axes, pad=0.01, aspect=30).ax.tick_params(labelsize=SMALL)
    if owners is not None:
        _mark_own_cells(axes, owners, layers)
    axes.set_yticks(range(layers), [shorten(name) for name in warehouse.layer_labels])
    axes.set_xlabel('cells', fontsize=NORMAL)
    axes.set_title(
        f'{warehouse.name}: attention of layers to cells, 1 = equal shares',
        fontsize=NORMAL + 1,
        loc='left',
    )
    _draw_parts(bars, rows, warehouse)
    for part in (axes, bars):
        part.tick_params(labelsize=SMALL)
    return figure


def draw_course(
    checkpoints: Sequence[str], course: Sequence[Sequence[WarehouseAttention]]
) -> Figure:
    """Temperature, entropy and shares of every warehouse over the checkpoints of a run.

    Args:
        checkpoints: Their names, in the order of training.
        course: Of each checkpoint, all its warehouses.
    """
    figure = new_figure(12, 3.4, layout='constrained')
    panels = figure.subplots(1, len(COURSES))
    for number, color in enumerate(distinct_colors(len(course[0]))):
        own = [step[number] for step in course]
        values = [dict(one.summary, temperature=one.temperature) for one in own]
        line = dict(color=color, linewidth=1.1, label=own[0].name)
        for axes, key in zip(panels, COURSES):
            axes.plot([value[key] for value in values], '.-', **line)
    names = [shorten(name, 18) for name in checkpoints]
    for axes, title in zip(panels, COURSES.values()):
        axes.set_title(title, fontsize=NORMAL, loc='left')
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.tick_params(labelsize=SMALL)
        axes.set_ylim(0, 1.05 if axes in panels[:2] else None)
        axes.grid(alpha=0.3)
    legend_below(figure, panels[0], columns=7)
    return figure


def draw_comparison(warehouses: Sequence[WarehouseAttention], samples: Sequence[Sample]) -> Figure:
    """Two images, and how much the attention of every layer differs between them.

    Args:
        warehouses: All of them, with attention for the images.
        samples: The images; the first two are compared.
    """
    labels = [label for warehouse in warehouses for label in warehouse.layer_labels]
    width = min(max(4, 0.15 * len(labels)), 13)
    figure = new_figure(width + 2.6, 4.4, layout='constrained')
    grid = figure.add_gridspec(2, 2, width_ratios=(2, width))
    for row, sample in enumerate(samples[:2]):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(sample.image)
        axes.set_title(shorten(sample.name), fontsize=SMALL)
        axes.axis('off')
    axes = figure.add_subplot(grid[:, 1])
    first = 0
    for warehouse, color in zip(warehouses, distinct_colors(len(warehouses))):
        values = list(warehouse.differences(0, 1).values())
        places = range(first, first + len(values))
        axes.bar(places, values, color=color, label=warehouse.name)
        first += len(values)
    axes.set_xticks(range(len(labels)), [shorten(label) for label in labels], rotation=90)
    axes.set_title(
        'difference of attention, 0 = alike, 2 = opposite', fontsize=NORMAL + 1, loc='left'
    )
    axes.tick_params(labelsize=SMALL)
    axes.margins(x=0.01)
    legend_below(figure, axes, columns=7)
    return figure


def _quantiles(warehouse: WarehouseAttention) -> Tensor:
    """Quantiles of alpha over images and cells other than start cells, shape (5, m_t)."""
    alpha, starts = warehouse.alpha.transpose(0, 1), warehouse.starts
    others = [
        values[:, ~start] if not start.all() else values for values, start in zip(alpha, starts)
    ]
    return torch.stack(
        [torch.quantile(values.flatten(), torch.tensor(QUANTILES)) for values in others], dim=1
    )


def _draw_marks(axes: Axes, warehouse: WarehouseAttention) -> float:
    """Marks of start and zero cells; returns the largest size of their values."""
    starts, mean = warehouse.starts, warehouse.alpha.mean(dim=0)
    mixtures, cells = starts.nonzero().unbind(dim=1)
    largest = 0.0
    if len(cells) and not starts.all():
        values = mean[mixtures, cells]
        dots = dict(s=9, color=COLORS[2], linewidth=0, zorder=3)
        axes.scatter(mixtures, values, label='start cell', **dots)
        largest = float(values.abs().max())
    if warehouse.zero is not None:
        zero = warehouse.zero.mean(dim=0)
        crosses = dict(s=10, marker='x', color=COLORS[1], linewidth=0.9, zorder=3)
        axes.scatter(range(len(zero)), zero, label='zero cell', **crosses)
        largest = max(largest, float(zero.abs().max()))
    return largest


def _fit_scale(axes: Axes, band: float, marks: float) -> None:
    band = max(band, 1e-3 * marks)
    if marks > 8 * band:
        axes.set_yscale('symlog', linthresh=2 * band, linscale=1.5)
        axes.set_yticks(
            [-2 * band, 0, 2 * band, marks],
            [f'{-2 * band:.1g}', '0', f'{2 * band:.1g}', f'{marks:.2g}'],
        )
        axes.minorticks_off()


def _label_columns(axes: Axes, warehouse: WarehouseAttention, width: float) -> None:
    rows, mixtures = warehouse.layer_rows, warehouse.starts.shape[0]
    centres = [(first + last) / 2 for first, last in rows]
    places = spread_labels(centres, 0.12 * mixtures / (0.9 * width), mixtures - 1)
    axes.set_xticks(places, [shorten(name) for name in warehouse.layer_labels], rotation=90)
    axes.set_xlim(-0.5, mixtures - 0.5)
    axes.tick_params(axis='x', length=0)


def _mark_own_cells(axes: Axes, owners: Tensor, layers: int) -> None:
    """A bracket under the cells of each layer, in its row."""
    line = dict(color=COLORS[2], linewidth=1.6, solid_capstyle='butt')
    for row in range(layers):
        own = (owners == row).nonzero().flatten()
        if len(own):
            axes.plot([own[0] - 0.5, own[-1] + 0.5], [row + 0.42] * 2, **line)


def _draw_parts(axes: Axes, rows: Tensor, warehouse: WarehouseAttention) -> None:
    cells, owners = warehouse.num_cells, warehouse.owners
    zero = rows[:, cells:].sum(dim=1)
    own = (
        torch.zeros(len(rows))
        if owners is None
        else torch.stack([row[:cells][owners == i].sum() for i, row in enumerate(rows)])
    )
    left = torch.zeros(len(rows))
    parts = (own, 1 - own - zero, zero)
    for name, part, color in zip(SHARES, parts, (COLORS[2], COLORS[0], COLORS[1])):
        label = 'cells' if owners is None and name == SHARES[1] else name
        if float(part.sum()):
            bar = dict(left=left.numpy(), height=0.8, color=color, label=label)
            axes.barh(range(len(rows)), part.numpy(), **bar)
        left = left + part
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.set_xlabel('share of attention', fontsize=NORMAL)
    axes.legend(
        loc='lower right',
        bbox_to_anchor=(1.03, 1),
        fontsize=SMALL,
        frameon=False,
        ncols=3,
        borderaxespad=0.2,
        handlelength=1,
        columnspacing=1,
    )
