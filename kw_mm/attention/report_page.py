"""Everything about the attention of one model, as pictures and as one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..analysis.figures import save_figure
from .course import draw_comparison, draw_course, draw_maps_of_run
from .maps import draw_difference, draw_mean
from .page import Picture, Section, write_page
from .plots import draw_distribution, draw_usage
from .samples import Sample
from .statistics import WarehouseAttention

HEAD = (
    'warehouse',
    'mixtures',
    'cells',
    'temperature',
    'entropy',
    'share of start cells',
    'share of the zero cell',
    'negative share',
)
SHARE = (
    "Share: a cell's |attention| in the sum over all cells of a mixture, the zero cell included. Entropy of the shares "
    'is relative to that of equal ones. Means over mixtures and images.'
)


class Checkpoint(NamedTuple):
    """A checkpoint and the attention of its warehouses."""

    name: str
    warehouses: list[WarehouseAttention]


def write_attention_report(
    folder: str, title: str, checkpoints: Sequence[Checkpoint], samples: Sequence[Sample]
) -> Path:
    """Draw attention into PNG files, and a page ``index.html`` that holds them.

    Args:
        folder: Where to write.
        title: Of the page.
        checkpoints: In the order of training; the last one is drawn in full, the others in its
            course.
        samples: The images; with two or more the first two are compared.

    Returns:
        Path: The page.
    """
    out, last = Path(folder), checkpoints[-1]
    sections = [Section('Warehouses', [], [HEAD, *map(_row, last.warehouses)])]
    if len(checkpoints) > 1:
        sections.append(Section('Over the run', [_course(out, checkpoints)]))
    if len(samples) > 1:
        file = save_figure(draw_comparison(last.warehouses, samples), out / 'two_images.png')
        sections.append(
            Section('Two images', [Picture(file, 'How much the attention of each layer differs')])
        )
    for number, warehouse in enumerate(last.warehouses):
        sections.append(Section(warehouse.name, _pictures(out, number, checkpoints, samples)))
    images = ', '.join(sample.name for sample in samples)
    return write_page(
        out / 'index.html', title, [f'Checkpoint {last.name}. Images: {images}.', SHARE], sections
    )


def _row(warehouse: WarehouseAttention) -> list[str]:
    summary = (f'{value:.3f}' for value in warehouse.summary.values())
    mixtures, cells = warehouse.starts.shape
    return [warehouse.name, str(mixtures), str(cells), f'{warehouse.temperature:.3g}', *summary]


def _course(out: Path, checkpoints: Sequence[Checkpoint]) -> Picture:
    figure = draw_course([one.name for one in checkpoints], [one.warehouses for one in checkpoints])
    return Picture(
        save_figure(figure, out / 'run.png'), 'Temperature, entropy and shares at every checkpoint'
    )


def _pictures(
    out: Path, number: int, checkpoints: Sequence[Checkpoint], samples: Sequence[Sample]
) -> list[Picture]:
    warehouse = checkpoints[-1].warehouses[number]
    figures = {
        'mean': (
            draw_mean(warehouse),
            'Mean attention of every mixture to every cell; start cells in green',
        ),
        'distribution': (
            draw_distribution(warehouse),
            'Attention of every mixture over cells and images',
        ),
        'usage': (
            draw_usage(warehouse),
            'Which cells the layers use; in green those given to the layer at the start',
        ),
    }
    if len(checkpoints) > 1:
        course = [one.warehouses[number] for one in checkpoints]
        figures['run'] = (
            draw_maps_of_run([one.name for one in checkpoints], course),
            'Mean attention over the run',
        )
    if len(samples) > 1:
        names = [sample.name for sample in samples]
        figures['difference'] = (
            draw_difference(warehouse, names),
            'Attention for the first image minus the second',
        )
    return [
        Picture(save_figure(figure, out / f'{warehouse.name}_{kind}.png'), caption)
        for kind, (figure, caption) in figures.items()
    ]
