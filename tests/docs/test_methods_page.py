"""The table of docs/methods.md says what the tests hold: no more, no less."""

import ast
import re
from functools import cache

import pytest
from method_networks import CHECKED, NETWORKS
from run_tools import ROOT

PAGE = (ROOT / 'docs/methods.md').read_text()
HEADER, *ROWS = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in re.findall(r'^\|.*\|$', PAGE.split('*layer*:')[0], re.MULTILINE)
    if not line.startswith('| ---')
]
COLUMNS = HEADER[2:]
CELLS = {
    (method if backbone == 'any' else f'{method}, {backbone}'): dict(zip(COLUMNS, cells))
    for method, backbone, *cells in ROWS
}
LETTERS = dict(re.findall(r'^- (\w): (.*(?:\n  .*)*)', PAGE, re.MULTILINE))
NOTES = dict(re.findall(r'^(\d)\. (.*(?:\n   .*)*)', PAGE, re.MULTILINE))
TESTS = re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', PAGE)


@cache
def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_it_has_a_row_for_every_network():
    assert set(CELLS) == set(NETWORKS) and len(ROWS) == len(NETWORKS)
    assert COLUMNS == ['values', *CHECKED]


@pytest.mark.parametrize('column', CHECKED)
def test_what_is_said_to_work_is_tested(column):
    said = {name for name, cells in CELLS.items() if cells[column].startswith('yes')}
    assert said == set(CHECKED[column])


def test_every_other_cell_names_a_test_or_a_reason():
    used = set()
    for name, cells in CELLS.items():
        for column, cell in cells.items():
            kind, _, note = cell.partition(' ')
            used |= {kind, note.strip('()')}
            assert note == '' or note.strip('()') in NOTES, (name, column)
            assert kind in ('yes', 'layer') or kind in LETTERS or (kind == 'no' and note), (
                name,
                column,
            )
    assert used - {'', 'yes', 'no', 'layer'} == set(LETTERS) | set(NOTES)
    assert all('::' in text for text in LETTERS.values())


def test_every_test_exists():
    assert len(TESTS) > 30
    missing = [f'{path}::{name}' for path, name in TESTS if name not in functions(path)]
    assert not missing
