"""The rooms of docs/architecture.md are those of the code, and every import follows its arrows."""

import re
import sys
from collections import defaultdict
from pathlib import Path

from imports import Import, imports, names_in
from run_tools import ROOT

PACKAGE = ROOT / 'kw_mm'
EXAMPLES = {path.name for path in (ROOT / 'examples').iterdir() if path.is_dir()}
FOUNDATION = {'errors', 'validation', 'protocols', 'files'}
STANDARD = sys.stdlib_module_names


def read_diagram(text):
    """A page's diagram: the rooms that each node stands for, and the arrows between nodes."""
    (block,) = re.findall(r'^```mermaid\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    nodes, arrows = {}, set()
    for line in map(str.strip, block.splitlines()[1:]):
        if label := re.fullmatch(r'(\w+)\["([\w, ]+)"\]', line):
            nodes[label[1]] = set(label[2].split(', '))
        elif line:
            start, ends = re.fullmatch(r'(\w+) --> (\w+(?: & \w+)*)', line).groups()
            arrows |= {(start, end) for end in ends.split(' & ')}
    for node in {node for arrow in arrows for node in arrow}:
        nodes.setdefault(node, {node})
    return nodes, arrows


NODES, ARROWS = read_diagram((ROOT / 'docs/architecture.md').read_text())
NODE_OF = {room: node for node, rooms in NODES.items() for room in rooms}


# Folders and modules of the package, `kw_mm` for what is in none of them, and what is beside it.
ROOMS = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
ROOMS |= {path.stem for path in PACKAGE.glob('*.py') if not path.stem.startswith('__')}
ROOMS |= {'kw_mm', 'tools', 'examples'}


def room_of_file(file):
    first, second = Path(file).parts[:2]
    second = second.partition('.')[0]
    return second if first == 'kw_mm' and second in ROOMS else first


def room_of_name(name):
    """The room of an imported name, or None for other packages."""
    first, _, rest = name.partition('.')
    second = rest.partition('.')[0]
    if first == 'kw_mm':
        return second if second in ROOMS else 'kw_mm'
    return 'examples' if first in EXAMPLES | {'examples'} else None


def between_rooms(found):
    """``(room, room) -> the imports that need this arrow``."""
    needed = defaultdict(list)
    for item in found:
        pair = room_of_file(item.file), room_of_name(item.name)
        if pair[1] and pair[0] != pair[1]:
            needed[pair].append(f'{item.file}:{item.line} imports {item.name}')
    return needed


def reachable(arrows):
    """``node -> nodes`` to which a way of one or more arrows leads."""
    ways = defaultdict(set)
    for start, end in arrows:
        ways[start].add(end)
    while True:
        longer = {
            start: ends | {far for end in ends for far in ways.get(end, ())}
            for start, ends in ways.items()
        }
        if longer == ways:
            return longer
        ways = longer


def against(found):
    """Imports that no way along the arrows allows."""
    ways = reachable(ARROWS)
    return [
        where
        for (start, end), places in between_rooms(found).items()
        if NODE_OF[start] != NODE_OF[end] and NODE_OF[end] not in ways.get(NODE_OF[start], ())
        for where in places
    ]


FOUND = imports('kw_mm', 'tools', 'examples')


def test_the_diagram_has_every_room_once():
    drawn = [room for group in NODES.values() for room in group]
    assert sorted(drawn) == sorted(ROOMS)


def test_the_arrows_have_no_cycle():
    assert not [node for node, ends in reachable(ARROWS).items() if node in ends]


def test_imports_follow_the_arrows():
    assert not against(FOUND)


def test_every_arrow_is_an_import():
    needed = {(NODE_OF[start], NODE_OF[end]) for start, end in between_rooms(FOUND)}
    assert not ARROWS - needed


def test_an_import_against_the_arrows_is_found():
    for file, name in (
        ('kw_mm/ops/conv.py', 'kw_mm.warehouse.layers.KWLayer'),
        ('kw_mm/warehouse/layers.py', 'kw_mm.compared.ODConv2d'),
        ('kw_mm/checkpoints/convert.py', 'kw_mm.models.KWResNet'),
        ('kw_mm/models/resnet.py', 'kw_mm.training.runner'),
        ('kw_mm/files.py', 'kw_mm.run_config'),
        ('kw_mm/models/resnet.py', 'kw_mm'),
    ):
        assert against([Import(file, 1, name)]), (file, name)
    assert not against([Import('tools/train.py', 1, 'kw_mm.ops.conv2d_per_image')])


def test_imports_are_found_wherever_they_stand():
    text = """
import os.path
from ..errors import UserError, one_line
from . import names
def later():
    from kw_mm.ops.conv import conv2d_per_image
    import_module('..models', __package__)
    importlib.import_module('matplotlib.pyplot')
"""
    found = {name for _, name in names_in(text, Path('kw_mm/checkpoints/zoo.py'))}
    assert found == {
        'os.path',
        'kw_mm.errors.UserError',
        'kw_mm.errors.one_line',
        'kw_mm.checkpoints.names',
        'kw_mm.ops.conv.conv2d_per_image',
        'kw_mm.models',
        'matplotlib.pyplot',
    }


def test_the_mechanism_needs_torch_only():
    allowed = {'ops', 'warehouse', 'errors', 'validation'}
    for room in ('ops', 'warehouse'):
        found = [item for item in FOUND if room_of_file(item.file) == room]
        others = [item for item in found if '/triton_ops/' not in item.file]
        assert {item.top for item in others} - STANDARD <= {'torch', 'kw_mm'}
        assert {item.top for item in found} - STANDARD <= {'torch', 'kw_mm', 'triton'}
        assert {room_of_name(item.name) for item in found} - {None} <= allowed
    assert len(found) > 20


def test_the_foundation_needs_the_standard_library_only():
    found = [item for item in FOUND if room_of_file(item.file) in FOUNDATION]
    assert {item.top for item in found} <= STANDARD | {'kw_mm'}
    assert {room_of_name(item.name) for item in found} - {None} <= FOUNDATION
    assert NODES['foundation'] == FOUNDATION


def test_no_two_modules_have_one_name():
    places = defaultdict(list)
    for path in PACKAGE.rglob('*.py'):
        if '.mim' not in path.parts and path.name != '__init__.py':
            places[path.stem].append(path.relative_to(ROOT).as_posix())
    for path in {path.parent for path in PACKAGE.rglob('__init__.py')}:
        if '.mim' not in path.parts:
            places[path.name].append(path.relative_to(ROOT).as_posix())
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}
