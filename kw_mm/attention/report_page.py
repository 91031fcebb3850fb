"""Everything about the attention of one model, as pictures and as one HTML page.

The page holds its pictures, and so can be opened, moved and sent as a single file.
"""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..analysis.figures import save_figure
from ..files import write_text
from .maps import draw_difference, draw_maps_of_run, draw_mean
from .plots import draw_comparison, draw_course, draw_distribution, draw_usage
from .samples import Sample
from .statistics import WarehouseAttention, mean_summary

HEAD = (
    'warehouse',
    'mixtures',
    'cells',
    'temperature',
    'entropy',
    'share of start cells',
    'share of the zero cell',
    'negative share',
    'by image',
)
SHARE = (
    "Share: a cell's |attention| in the sum over all cells of a mixture, the zero cell included. "
    'Entropy of the shares is relative to that of equal ones. Means over mixtures and images. '
    "By image: an image's attention minus the mean over images, relative to attention's size."
)


CAPTIONS = {
    'mean': 'Mean attention of every mixture to every cell; start cells in green',
    'distribution': 'Attention of every mixture over cells and images',
    'usage': 'Which cells the layers use; in green those given to the layer at the start',
    'run': 'Mean attention over the run',
    'difference': 'Attention for the first image minus the second',
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1500px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { border-top: 1px solid #ccc; padding-top: 1em; margin-top: 2em; }
img { max-width: 100%; height: auto; display: block; }
figure { margin: 1.2em 0; } figcaption { color: #555; }
table { border-collapse: collapse; }
td, th { padding: 0.2em 0.9em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } nav a { margin-right: 1em; }
"""


class Checkpoint(NamedTuple):
    """A checkpoint and the attention of its warehouses."""

    name: str
    warehouses: list[WarehouseAttention]


class Picture(NamedTuple):
    """An image file and what it shows."""

    file: Path
    caption: str


class Section(NamedTuple):
    """A part of a page."""

    title: str
    pictures: list[Picture]
    table: Sequence[Sequence[str]] = ()  # the first row is its head


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
    rows = [_row(warehouse) for warehouse in last.warehouses]
    sections = [Section('Warehouses', [], [HEAD, *rows, _mean_row(last.warehouses)])]
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


def write_page(file: Path, title: str, lines: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write a page.

    Args:
        file: HTML file to write.
        title: Of the page.
        lines: Paragraphs below the title.
        sections: Parts of the page, each with a link at its top.
    """
    links = ''.join(
        f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(sections)
    )
    body = ''.join(_section_html(i, section) for i, section in enumerate(sections))
    head = ''.join(f'<p>{escape(line)}</p>\n' for line in lines)
    write_text(
        file,
        f'<!DOCTYPE html>\n<html lang="en">\n'
        f'<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n{head}<nav>{links}</nav>\n{body}</body>\n</html>\n',
    )
    return file


def _row(warehouse: WarehouseAttention) -> list[str]:
    summary = (f'{value:.3f}' for value in warehouse.summary.values())
    mixtures, cells = warehouse.starts.shape
    return [warehouse.name, str(mixtures), str(cells), f'{warehouse.temperature:.3g}', *summary]


def _mean_row(warehouses: Sequence[WarehouseAttention]) -> list[str]:
    return ['mean', '', '', '', *(f'{value:.3f}' for value in mean_summary(warehouses).values())]


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
        'mean': draw_mean(warehouse),
        'distribution': draw_distribution(warehouse),
        'usage': draw_usage(warehouse),
    }
    if len(checkpoints) > 1:
        course = [one.warehouses[number] for one in checkpoints]
        figures['run'] = draw_maps_of_run([one.name for one in checkpoints], course)
    if len(samples) > 1:
        figures['difference'] = draw_difference(warehouse, [sample.name for sample in samples])
    return [
        Picture(save_figure(figure, out / f'{warehouse.name}_{kind}.png'), CAPTIONS[kind])
        for kind, figure in figures.items()
    ]


def _section_html(number: int, section: Section) -> str:
    pictures = ''.join(_picture_html(picture) for picture in section.pictures)
    return (
        f'<h2 id="s{number}">{escape(section.title)}</h2>\n{_table_html(section.table)}{pictures}'
    )


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(picture.file.read_bytes()).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
        f'<figcaption>{caption} ({escape(picture.file.name)})</figcaption></figure>\n'
    )


def _table_html(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ''
    cells = [
        ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)
        for tag, row in zip(['th'] + ['td'] * len(rows), rows)
    ]
    return '<table>' + ''.join(f'<tr>{row}</tr>' for row in cells) + '</table>\n'
