"""Constants of the package."""

import ast
from collections import defaultdict

from run_tools import ROOT


def constants(path):
    """Names in capitals that a file defines at its top level."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
        yield from (t.id for t in targets if isinstance(t, ast.Name) and t.id.isupper())


def test_no_two_constants_have_one_name():
    places = defaultdict(list)
    for folder in ('kw_mm', 'tools'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            if '.mim' not in path.parts:
                for name in constants(path):
                    places[name].append(path.relative_to(ROOT).as_posix())
    assert len(places) > 80
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}
