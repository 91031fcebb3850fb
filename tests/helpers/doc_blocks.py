"""The fenced blocks of a Markdown page, and the comments before them that say how they are tested.

    <!-- needs: gpu coco -->                a bash block that is checked (scripts, configs,
                                            options) and not run
    <!-- tested: tests/... -->              the same; the test file named runs the block's tools, or
                                            calls what a Python block calls
    <!-- small: train --cfg-options ... --> a bash block that is run, with more options for the
                                            tools named
    <!-- file: NAME.py -->                  a Python block that is a file; a config is built
    <!-- package: NAME -->                  a Python block that is executed where the package is

Any other bash block is run as it is, and any other Python block executed.
"""

import re
import shlex
from typing import NamedTuple

BLOCK = re.compile(
    r'(?:^<!-- (?P<kind>needs|tested|small|file|package): (?P<value>[^\n]*?) -->\n)?'
    r'^```(?P<language>\w*)\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
NEEDS = {'gpu', 'coco', 'imagenet', 'install', 'network', 'slurm'}


class Block(NamedTuple):
    """A fenced block: its language, its text and its comment."""

    language: str
    text: str
    kind: str
    value: str


class Command(NamedTuple):
    """One command: a tool's path or another program, and its arguments."""

    program: str
    args: list[str]


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page's text."""
    return [
        Block(match['language'], match['text'], match['kind'] or '', match['value'] or '')
        for match in BLOCK.finditer(page)
    ]


def commands(text: str) -> list[Command]:
    """The commands of a bash block, one a line or joined by ``&&``, without their variables."""
    found = []
    for line in re.sub(r'\\\n', ' ', text).splitlines():
        for part in re.split(r'\s&&\s', line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r'[A-Z_]+=\S*', words[0]):
                words.pop(0)
            if words:
                found.append(_command(words))
    return found


def _command(words: list[str]) -> Command:
    if words[0] in ('python', 'bash') and len(words) > 1 and words[1].startswith('tools/'):
        return Command(words[1], words[2:])
    return Command(words[0], words[1:])


def small_options(value: str) -> dict[str, list[str]]:
    """Options by tool, from ``tool OPTIONS; tool OPTIONS``."""
    return {words[0]: words[1:] for words in map(shlex.split, value.split(';'))}
