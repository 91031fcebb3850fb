"""What Python files import, read from their text, so that lazy imports count too."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from run_tools import ROOT

# Where modules are imported by names in variables: all of kw_mm's names in the text count.
BY_VARIABLE = (
    'kw_mm/__init__.py',
    'kw_mm/checkpoints/architectures.py',
    'kw_mm/registration.py',
    'kw_mm/run_config.py',
    'tests/test_imports.py',
)


class Import(NamedTuple):
    """One imported name: where it stands, and the absolute dotted name."""

    file: str
    line: int
    name: str

    @property
    def top(self) -> str:
        """The top-level package."""
        return self.name.partition('.')[0]


def imports(*folders: str) -> list[Import]:
    """All imports of the Python files in folders of the project, e.g. 'kw_mm' and 'tools'."""
    return [
        Import(path.relative_to(ROOT).as_posix(), line, name)
        for folder in folders
        for path in sorted((ROOT / folder).rglob('*.py'))
        if '.mim' not in path.parts
        for line, name in names_in(path.read_text(), path.relative_to(ROOT))
    ]


def names_in(text: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import in the text of a file with this path."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            module = [*package, *([node.module] if node.module else [])]
            yield from ((node.lineno, '.'.join([*module, alias.name])) for alias in node.names)
        elif path.as_posix() in BY_VARIABLE:
            if isinstance(node, ast.Constant) and str(node.value).startswith('kw_mm.'):
                yield node.lineno, node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module'):
            yield node.lineno, _constant(node, path)


def _constant(call: ast.Call, path: Path) -> str:
    """The name given to ``import_module``; it has to be in the text, to be checked here."""
    argument = call.args[0] if call.args else None
    assert isinstance(argument, ast.Constant), f'{path}:{call.lineno}: import_module of a variable'
    name = argument.value
    dots = len(name) - len(name.lstrip('.'))
    package = path.parts[: len(path.parts) - dots] if dots else ()
    return '.'.join([*package, name[dots:]])
