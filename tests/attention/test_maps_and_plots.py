import numpy as np
import pytest
import torch

from kw_mm.analysis.figures import figure_pixels, spread_labels
from kw_mm.attention.maps import draw_maps_of_run, draw_mean, map_scale
from kw_mm.attention.plots import draw_course, draw_distribution, draw_usage
from kw_mm.attention.statistics import LayerAttention, WarehouseAttention


def warehouse_of(alpha, counts, temperature=0.0, starts=True):
    """Attention ``alpha``, shape (images, m_t, n + 1), cut into layers of ``counts`` mixtures.

    Mixture i starts from cell i n / m_t.
    """
    mixtures, cells = alpha.shape[1], alpha.shape[2] - 1
    beta = torch.zeros(mixtures, cells + 1)
    if starts:
        beta[range(mixtures), [i * cells // mixtures for i in range(mixtures)]] = 1
    layers = [
        LayerAttention(f'backbone.layer{i}.conv', *parts)
        for i, parts in enumerate(zip(alpha.split(counts, dim=1), beta.split(counts)))
    ]
    return WarehouseAttention('stage1', cells, temperature, layers)


def pixel_of(figure, axes, x, y):
    """RGB in the middle of a data point."""
    pixels = figure_pixels(figure)
    column, row = axes.transData.transform((x, y))
    return pixels[round(len(pixels) - row), round(column)].astype(int)


@pytest.mark.parametrize('mixtures, cells', [(6, 6), (27, 108), (138, 552), (441, 441)])
def test_every_cell_is_there_in_the_colour_of_its_sign(mixtures, cells):
    alpha = torch.zeros(2, mixtures, cells + 1)
    spots = {(1, cells - 2): 0.5, (mixtures - 2, 1): -0.5}
    for (row, column), value in spots.items():
        alpha[:, row, column] = value
    figure = draw_mean(warehouse_of(alpha, [mixtures - 1, 1], starts=False))
    axes = figure.axes[0]
    for (row, column), value in spots.items():
        red, green, blue = pixel_of(figure, axes, column, row)
        assert (red - blue) * value > 30 and green < 60, (row, column)
        assert min(pixel_of(figure, axes, column, row - 1)) > 200  # the neighbour is not touched
    box = axes.get_window_extent()
    assert box.width / cells >= 1 and box.height / mixtures >= 1.99


def test_start_cells_are_marked():
    alpha = torch.zeros(1, 8, 9)
    plain, marked = (
        figure_pixels(draw_mean(warehouse_of(alpha, [8], starts=starts)))
        for starts in (False, True)
    )
    assert plain.shape == marked.shape
    changed = (plain != marked).any(axis=-1)
    assert changed.sum() > 8 * 20
    red, green, blue = np.median(marked[changed], axis=0)
    assert green > red and green > blue


def test_layers_are_labelled_in_order():
    warehouse = warehouse_of(torch.randn(2, 30, 31), [20, 1, 1, 1, 7])
    assert warehouse.layer_rows == [(0, 19), (20, 20), (21, 21), (22, 22), (23, 29)]
    labels = [text for text in draw_mean(warehouse).axes[0].texts if 'layer' in text.get_text()]
    assert [text.get_text() for text in labels] == [f'layer{i}.conv' for i in range(5)]
    places = [text.get_position()[1] for text in labels]
    assert places == sorted(places) and min(np.diff(places)) > 0.5


@pytest.mark.parametrize(
    'positions, gap, last, expected',
    [
        ([1, 5, 9], 2, 10, [1, 5, 9]),
        ([5, 5, 5], 2, 10, [5, 7, 9]),
        ([9, 9, 10], 2, 10, [6, 8, 10]),
        ([4, 4, 4], 9, 10, [0, 5, 10]),
        ([3], 2, 10, [3]),
    ],
)
def test_labels_are_spread(positions, gap, last, expected):
    assert spread_labels(positions, gap, last) == expected


def test_scales_are_centred_on_zero():
    values = torch.rand(40, 40) - 0.2
    scale = map_scale(values)
    assert -scale.vmin == scale.vmax == pytest.approx(0.8, abs=0.01) and scale(
        0.0
    ) == pytest.approx(0.5)
    values[0, 0] = 100  # one that dwarfs the others
    scale = map_scale(values)
    assert scale(0.0) == pytest.approx(0.5) and scale(0.4) > 0.55 and scale(100.0) == 1
    assert map_scale(torch.zeros(3, 3))(0.0) == 0.5


def test_the_distribution_shows_quantiles_start_cells_and_zero_cell():
    alpha = torch.zeros(50, 4, 41)
    alpha[..., :40] = torch.linspace(-1, 1, 50).reshape(-1, 1, 1)
    alpha[:, range(4), range(0, 40, 10)] = 0.75
    alpha[..., 40] = -0.25
    axes = draw_distribution(warehouse_of(alpha, [2, 2])).axes[0]
    outer, inner, starts, zero = axes.collections
    assert [
        outer.get_paths()[0].vertices[:, 1].min(),
        inner.get_paths()[0].vertices[:, 1].max(),
    ] == pytest.approx([-0.98, 0.5], abs=0.03)
    assert [
        outer.get_paths()[0].vertices[:, 0].min(),
        outer.get_paths()[0].vertices[:, 0].max(),
    ] == [-0.5, 3.5]
    assert np.allclose(starts.get_offsets(), [(i, 0.75) for i in range(4)])
    assert np.allclose(zero.get_offsets(), [(i, -0.25) for i in range(4)])


def test_usage_tells_own_cells_from_others():
    alpha = torch.zeros(1, 4, 5)
    alpha[:, :2, :2] = 0.5  # the first layer keeps to its own cells
    alpha[:, 2:, 0], alpha[:, 2:, 2], alpha[:, 2:, 4] = 0.25, -0.5, 0.25  # the second one does not
    axes, bars = draw_usage(warehouse_of(alpha, [2, 2])).axes[:2]
    assert np.allclose(axes.images[0].get_array(), [[2.5, 2.5, 0, 0], [1.25, 0, 2.5, 0]])
    widths = [[bar.get_width() for bar in container] for container in bars.containers]
    assert np.allclose(widths, [[1, 0.5], [0, 0.25], [0, 0.25]])


def test_a_run_is_drawn_checkpoint_by_checkpoint():
    course = [
        [warehouse_of(torch.randn(2, 6, 7), [3, 3], temperature=1 - t / 9)] for t in range(10)
    ]
    names = [f'epoch_{t}' for t in range(10)]
    panels = draw_course(names, course).axes
    assert panels[0].lines[0].get_ydata() == pytest.approx([1 - t / 9 for t in range(10)])
    assert panels[1].lines[0].get_ydata() == pytest.approx([step[0].entropy for step in course])
    maps = [
        axes for axes in draw_maps_of_run(names, [step[0] for step in course]).axes if axes.images
    ]
    assert [axes.get_title().split(',')[0] for axes in maps] == [
        names[i] for i in (0, 2, 4, 5, 7, 9)
    ]
    assert len({(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in maps}) == 1
