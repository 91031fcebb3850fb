"""The command lines of an installed kw_mm: ``kw_mm TOOL ...`` or ``python -m kw_mm TOOL ...``."""

import ast
import runpy
import sys
from pathlib import Path

from . import __version__
from .config_files import config_names, installed_files

CONFIGS = 'configs'


def main() -> None:
    """Run ``tools/TOOL.py`` with the arguments that follow its name; ``-`` stands for ``_``."""
    tools = {path.stem: path for path in sorted((installed_files() / 'tools').glob('*.py'))}
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    tool = name.replace('-', '_')
    if name in ('-V', '--version'):
        print(f'kw_mm {__version__}')
    elif name == CONFIGS:
        print('\n'.join(config_names()))
    elif tool in tools:
        del sys.argv[1]
        runpy.run_path(str(tools[tool]), run_name='__main__')
    elif name in ('-h', '--help'):
        print(usage(tools))
    else:
        print(
            f'error: kw_mm has no tool {name!r}; it has {CONFIGS}, {", ".join(map(typed, tools))}',
            file=sys.stderr,
        )
        sys.exit(2)


def usage(tools: dict[str, Path]) -> str:
    """The tools, a line each.

    Args:
        tools: {name: file}.
    """
    lines = {CONFIGS: 'List the names that can stand for a config file'}
    lines |= {typed(name): summary(path) for name, path in tools.items()}
    width = max(map(len, lines))
    return '\n'.join(
        [
            'usage: kw_mm [--version] TOOL ...',
            '',
            *(f'  {name:{width}}  {said}' for name, said in lines.items()),
            '',
            '"kw_mm TOOL --help" says what a tool takes.',
        ]
    )


def typed(name: str) -> str:
    """A tool's name as it is typed."""
    return name.replace('_', '-')


def summary(path: Path) -> str:
    """What a tool does: the first sentence of its docstring, without the command."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return said.splitlines()[0].partition(': python ')[0].rstrip('.')


if __name__ == '__main__':
    main()
