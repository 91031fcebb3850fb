"""How attention moves over a run, and how it differs between two images."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from ..analysis.figures import COLORS, NORMAL, SMALL, new_figure
from .maps import draw_map, layer_rows, map_scale, shorten
from .samples import Sample
from .statistics import WarehouseAttention

MOST_MAPS = 6
COURSES = ('temperature', 'entropy', 'start cells', 'zero cell')
TITLES = (
    'temperature',
    'entropy of attention, 1 = equal',
    'share of start cells',
    'share of the zero cell',
)


def draw_course(
    checkpoints: Sequence[str], course: Sequence[Sequence[WarehouseAttention]]
) -> Figure:
    """Temperature, entropy, and shares of start cells and zero cell of every warehouse over checkpoints of a run.

    Args:
        checkpoints: Their names, in the order of training.
        course: Of each checkpoint, all its warehouses.
    """
    figure = new_figure(12, 3.4, layout='constrained')
    panels = figure.subplots(1, len(COURSES))
    for number, color in enumerate(_colors(len(course[0]))):
        values = [
            dict(step[number].summary, temperature=step[number].temperature) for step in course
        ]
        for axes, key in zip(panels, COURSES):
            axes.plot(
                [value[key] for value in values],
                '.-',
                color=color,
                linewidth=1.1,
                label=course[0][number].name,
            )
    for axes, title in zip(panels, TITLES):
        axes.set_title(title, fontsize=NORMAL, loc='left')
        axes.set_xticks(
            range(len(checkpoints)), [shorten(name, 18) for name in checkpoints], rotation=90
        )
        axes.tick_params(labelsize=SMALL)
        axes.set_ylim(0, 1.05 if axes in panels[:2] else None)
        axes.grid(alpha=0.3)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc='outside lower center',
        ncols=7,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


def draw_maps_of_run(checkpoints: Sequence[str], course: Sequence[WarehouseAttention]) -> Figure:
    """Mean attention in one warehouse at checkpoints of a run, at most 6 of them, in the same colours.

    Args:
        checkpoints: Their names, in the order of training.
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
        for _, last in layer_rows(course[i])[:-1]:
            axes.axhline(last + 0.5, color='black', linewidth=0.3)
    panels[0].set_ylabel(f'{course[0].name}: mixtures', fontsize=SMALL)
    return figure


def draw_comparison(warehouses: Sequence[WarehouseAttention], samples: Sequence[Sample]) -> Figure:
    """Two images, and how much the attention of every layer differs between them.

    Args:
        warehouses: All of them, with attention for the images.
        samples: The images; the first two are compared.
    """
    bars = [
        (name, value, color, warehouse.name)
        for warehouse, color in zip(warehouses, _colors(len(warehouses)))
        for name, value in warehouse.differences(0, 1).items()
    ]
    names, values, colors, owners = zip(*bars)
    width = min(max(4, 0.15 * len(bars)), 13)
    figure = new_figure(width + 2.6, 4.4, layout='constrained')
    grid = figure.add_gridspec(2, 2, width_ratios=(2, width))
    for row, sample in enumerate(samples[:2]):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(sample.image)
        axes.set_title(shorten(sample.name), fontsize=SMALL)
        axes.axis('off')
    axes = figure.add_subplot(grid[:, 1])
    for owner, color in dict(zip(owners, colors)).items():
        own = [i for i, name in enumerate(owners) if name == owner]
        axes.bar(own, [values[i] for i in own], color=color, label=owner)
    axes.set_xticks(
        range(len(names)), [shorten(name.replace('backbone.', '')) for name in names], rotation=90
    )
    axes.set_title(
        'difference of attention, 0 = alike, 2 = opposite', fontsize=NORMAL + 1, loc='left'
    )
    axes.tick_params(labelsize=SMALL)
    axes.margins(x=0.01)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc='outside lower center',
        ncols=7,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


def _colors(number: int) -> list:
    if number <= len(COLORS):
        return list(COLORS[:number])
    return list(matplotlib.colormaps['turbo'](np.linspace(0.05, 0.95, number)))
