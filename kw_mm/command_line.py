"""What the command lines in ``tools/`` share: arguments, and errors as one line."""

import argparse
import errno
import functools
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from mmengine.config import DictAction

from .errors import UserError, one_line

OUT_OF_MEMORY = ('out of memory', "can't allocate memory", 'not enough memory')
LESS_MEMORY = (
    'less is needed with a smaller train_dataloader.batch_size, smaller images (scale in the '
    'pipelines), --amp on a GPU, model.backbone.assemble_checkpoint=True (kernels are mixed again '
    'in the backward pass) or model.backbone.with_cp=True (whole blocks are computed again)'
)
REFUSED_BY_DISK = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EDQUOT,
)
# OpenMMLab's use of it, which our own pin of setuptools keeps working
NOTHING_TO_DO_ABOUT = 'pkg_resources is deprecated as an API'
INTERRUPTED = 130  # the exit code of a shell's command that SIGINT ended
ONE_VALUE = 'Expected more than 1 value per channel'


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a tool's ``main``: an error that the user can fix becomes one line and exit code 2.

    The line goes to stderr. Such errors are :class:`UserError` and running out of memory.
    ``KW_MM_TRACEBACK=1`` in the environment shows the stack trace as well. Ctrl-C is one line with
    what the interrupt says, and exit code 130, as of a shell.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        print_anything()
        warnings.filterwarnings('ignore', message=NOTHING_TO_DO_ABOUT)
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            print(': '.join(['interrupted', *map(str, interrupt.args)]), file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:
            message = advice_on(error)
            if not message:
                raise
            if os.environ.get('KW_MM_TRACEBACK'):
                traceback.print_exc()
            print(f'error: {message}', file=sys.stderr)
            sys.exit(2)

    return wrapped


def print_anything() -> None:
    """Have what a console has no characters for, as in names of files, printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def advice_on(error: Exception) -> str:
    """One sentence about an error that the user can fix; empty for any other."""
    if isinstance(error, UserError):
        return raised_in_worker(error) or str(error)
    text = one_line(error)
    if isinstance(error, (RuntimeError, MemoryError)) and (
        isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
    ):
        return f'out of memory ({text[:200]}); {LESS_MEMORY}'
    if isinstance(error, OSError) and error.errno in REFUSED_BY_DISK and error.filename:
        return (
            f'{error.filename!r} cannot be read or written ({error.strerror}); name another file '
            'or folder'
        )
    if isinstance(error, ValueError) and ONE_VALUE in text:
        return (
            f'a batch norm was given one value ({text}); train with 2 or more images per GPU, and '
            'without a single one in the last batch (drop_last=True)'
        )
    return ''


def raised_in_worker(error: Exception) -> str:
    """The message of an error that torch hands on from a data worker, with its stack trace there.

    Returns:
        str: The message without the trace; empty for an error from elsewhere.
    """
    text, name = str(error), f'{type(error).__module__}.{type(error).__qualname__}: '
    return text.rpartition(name)[2].strip() if ' in DataLoader worker process ' in text else ''


class ToolParser(argparse.ArgumentParser):
    """A parser that shows all of the help to whoever types nothing but the tool's name."""

    def error(self, message: str) -> NoReturn:
        if len(sys.argv) < 2:
            self.print_help(sys.stderr)
            self.exit(2, f'\n{self.prog}: error: {message}\n')
        super().error(message)


def tool_parser(description: str | None, *examples: str) -> argparse.ArgumentParser:
    """A tool's parser, whose help ends with examples.

    Args:
        description: The tool's docstring.
        *examples: What can be typed after ``kw_mm``, with ``#`` before what it is for.
    """
    return ToolParser(
        description=description,
        epilog='\n'.join(['examples:', *(f'  kw_mm {example}' for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class CfgOptions(DictAction):
    """mmengine's action for ``--cfg-options``; what it cannot parse is a usage error."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        try:
            super().__call__(parser, *args)
        except (ValueError, AssertionError, RecursionError):
            # no "=", brackets that do not match, dict(...) in a list
            parser.error(
                '--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4; a value is a '
                'number, a word, or a list of them'
            )


def parse_run_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the shared arguments to a parser and parse the command line.

    Sets ``LOCAL_RANK``, which mmengine reads, where the launcher has not.
    """
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; default work_dirs/<config name>'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='changes to the config, e.g. data_root=/datasets/coco/ train_dataloader.batch_size=4',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def check_checkpoint(path: str) -> None:
    """Check that a checkpoint given on the command line is there.

    Raises:
        UserError: A local path without a file.
    """
    if '://' not in path and not os.path.isfile(path):
        raise UserError(f'checkpoint {path!r} does not exist')
