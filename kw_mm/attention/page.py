"""One HTML page that holds its pictures, and so can be opened, moved and sent as a single file."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1500px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { border-top: 1px solid #ccc; padding-top: 1em; margin-top: 2em; }
img { max-width: 100%; height: auto; display: block; } figure { margin: 1.2em 0; } figcaption { color: #555; }
table { border-collapse: collapse; } td, th { padding: 0.2em 0.9em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; } nav a { margin-right: 1em; }
"""


class Picture(NamedTuple):
    """An image file and what it shows."""

    file: Path
    caption: str


class Section(NamedTuple):
    """A part of a page."""

    title: str
    pictures: list[Picture]
    table: Sequence[Sequence[str]] = ()  # the first row is its head


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
    body = ''.join(_section(i, section) for i, section in enumerate(sections))
    head = ''.join(f'<p>{escape(line)}</p>\n' for line in lines)
    file.write_text(
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n{head}<nav>{links}</nav>\n{body}</body>\n</html>\n',
        encoding='utf-8',
    )
    return file


def _section(number: int, section: Section) -> str:
    pictures = ''.join(_picture(picture) for picture in section.pictures)
    return f'<h2 id="s{number}">{escape(section.title)}</h2>\n{_table(section.table)}{pictures}'


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.file.read_bytes()).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{caption}">'
        f'<figcaption>{caption} ({escape(picture.file.name)})</figcaption></figure>\n'
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ''
    cells = [
        ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)
        for tag, row in zip(['th'] + ['td'] * len(rows), rows)
    ]
    return '<table>' + ''.join(f'<tr>{row}</tr>' for row in cells) + '</table>\n'
