"""The tables of ``docs/results.md``: reading them, and filling in what was measured here."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import write_text

CONFIG_LINK = re.compile(r'\[.+\]\(\S*?(configs/\S+\.py)\)')
FILLED_COLUMN = 'ours'  # title of the column that is filled in


class TableRow(NamedTuple):
    """A row of a results table.

    Args:
        line: Its place in the file, from 0.
        config: The config it links, ``configs/NAME.py``.
        cells: Its cells by the titles of their columns.
    """

    line: int
    config: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        """Of the config, without folder and ending."""
        return Path(self.config).stem


def read_rows(text: str) -> list[TableRow]:
    """The rows of a Markdown page's tables whose first cell links a config."""
    rows = []
    titles: list[str] = []
    for number, line in enumerate(text.splitlines()):
        if not line.startswith('|'):
            titles = []
            continue
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        titles = titles or cells
        link = CONFIG_LINK.fullmatch(cells[0])
        if link:
            rows.append(TableRow(number, link[1], dict(zip(titles, cells))))
    return rows


def update_page(file: str, figures: Mapping[str, str]) -> list[str]:
    """Write figures into the column *ours* of a page; all of the page or nothing is written.

    Args:
        file: The page.
        figures: {name of a config: what its rows get}.

    Returns:
        list: A line for each config: what was put in, and in place of what.

    Raises:
        UserError: There is no such page, or it has no row with that column.
    """
    try:
        text = Path(file).read_text(encoding='utf-8')
    except OSError as error:
        raise UserError(
            f'--update must name a page with tables such as docs/results.md, got {file!r} '
            f'({error.strerror})'
        ) from error
    rows = [row for row in read_rows(text) if FILLED_COLUMN in row.cells]
    if not rows:
        raise UserError(
            '--update must name a page with tables that link configs and have a column '
            f'"{FILLED_COLUMN}", got {file!r}; docs/results.md of the checkout has them'
        )
    lines = text.splitlines(keepends=True)
    said: dict[str, str] = {}
    for row in rows:
        figure = figures.get(row.name)
        if figure is None:
            continue
        before = row.cells[FILLED_COLUMN]
        lines[row.line] = _with_figure(row, figure)
        if before == figure:
            said[row.name] = f'{row.name}: {figure}, as it was'
        else:
            said[row.name] = f'{row.name}: {figure}' + (f' instead of {before}' if before else '')
    updated = ''.join(lines)
    if updated != text:
        write_text(file, updated)
    return list(said.values())


def _with_figure(row: TableRow, figure: str) -> str:
    cells = [figure if title == FILLED_COLUMN else cell for title, cell in row.cells.items()]
    return '|' + '|'.join(f' {cell} ' if cell else ' ' for cell in cells) + '|\n'
