"""The tables of docs/results.md."""

import re
from typing import NamedTuple

from run_tools import ROOT

from kw_mm.analysis.results_page import read_rows

COLUMNS = ('parameters (M)', 'MAdds (G)', 'of which kernels')
NAMES = {
    'r18': 'resnet18',
    'r50': 'resnet50',
    'mbv2': 'mobilenetv2',
    'mbv2-050': 'mobilenetv2-050',
    'convnext-t': 'convnext-tiny',
}


class Row(NamedTuple):
    config: str
    parameters: str
    multiply_adds: str
    kernels: str
    scores: tuple


def read_table():
    return [
        Row(
            row.config,
            *(row.cells[title] for title in COLUMNS if title in row.cells),
            tuple(cell for title, cell in row.cells.items() if '*paper*' in title),
        )
        for row in read_rows((ROOT / 'docs/results.md').read_text())
    ]


def published_name(config):
    """configs/imagenet/kw4x_r18_300e_in1k.py -> resnet18-kw4x-imagenet, if it is published."""
    match = re.fullmatch(
        r'configs/(imagenet/|mask_rcnn_)(?:(kw\w*?)_)?([\w-]+?)_(?:(?:150|300)e_in1k|1x_coco)\.py',
        config,
    )
    if not match or match.group(3) not in NAMES:
        return None
    kind, budget, network = match.groups()
    parts = [NAMES[network], *([{'kw': 'kw1x'}.get(budget, budget)] if budget else [])]
    return '-'.join([*parts, 'imagenet'] if kind == 'imagenet/' else ['mask-rcnn', *parts, 'coco'])


ROWS = read_table()
