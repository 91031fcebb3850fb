"""The command lines of an installed kw_mm: ``kw_mm TOOL ...`` or ``python -m kw_mm TOOL ...``."""

import runpy
import sys

from . import __version__
from .config_files import config_names, installed_files


def main() -> None:
    """Run ``tools/TOOL.py`` with the arguments that follow its name."""
    tools = {path.stem: path for path in sorted((installed_files() / 'tools').glob('*.py'))}
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-V', '--version'):
        print(f'kw_mm {__version__}')
    elif name == 'configs':
        print('\n'.join(config_names()))
    elif name in tools:
        del sys.argv[1]
        runpy.run_path(str(tools[name]), run_name='__main__')
    elif name in ('-h', '--help'):
        print(
            f'usage: kw_mm [--version] {{configs,{",".join(tools)}}} ...\n\n'
            '"configs" lists the names that can '
            'stand for a config file; "kw_mm TOOL --help" says what a tool takes.'
        )
    else:
        print(
            f'error: kw_mm has no tool {name!r}; it has configs, {", ".join(tools)}',
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == '__main__':
    main()
