"""How the command lines report errors: one message, no stack trace, a non-zero exit."""

import functools
import os
import sys
import traceback
from collections.abc import Callable

from ..errors import UserError

OUT_OF_MEMORY = ('out of memory', "can't allocate memory", 'not enough memory')
LESS_MEMORY = (
    'less is needed with a smaller train_dataloader.batch_size, smaller images (scale in the pipelines), --amp '
    'on a GPU, model.backbone.assemble_checkpoint=True (kernels are mixed again in the backward pass) or '
    'model.backbone.with_cp=True (whole blocks are computed again)'
)
ONE_VALUE = 'Expected more than 1 value per channel'


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a tool's ``main``: an error that the user can mend becomes one line on stderr and exit code 2.

    These are :class:`UserError` and running out of memory. ``KW_MM_TRACEBACK=1`` in the environment
    shows the stack trace as well.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except Exception as error:
            message = what_to_mend(error)
            if not message:
                raise
            if os.environ.get('KW_MM_TRACEBACK'):
                traceback.print_exc()
            print(f'error: {message}', file=sys.stderr)
            sys.exit(2)

    return wrapped


def what_to_mend(error: Exception) -> str:
    """One sentence about an error that the user can mend; empty for any other."""
    if isinstance(error, UserError):
        return raised_in_worker(error) or str(error)
    text = one_line(error)
    if isinstance(error, (RuntimeError, MemoryError)) and (
        isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
    ):
        return f'out of memory ({text[:200]}); {LESS_MEMORY}'
    if isinstance(error, ValueError) and ONE_VALUE in text:
        return (
            f'a batch norm was given one value ({text}); train with 2 or more images per GPU, and without a single one '
            'in the last batch (drop_last=True)'
        )
    return ''


def raised_in_worker(error: Exception) -> str:
    """The message of an error from a data worker, which torch hands on with its stack trace; empty for others."""
    text, name = str(error), f'{type(error).__module__}.{type(error).__qualname__}: '
    return text.rpartition(name)[2].strip() if ' in DataLoader worker process ' in text else ''


def one_line(error: BaseException) -> str:
    """An error's message on one line; of a missing key, that it is missing; of a bare assertion, the assertion."""
    line = ' '.join(str(error).split())
    if isinstance(error, KeyError) and error.args:
        line = ' '.join(str(error.args[0]).split())
        line = line if ' ' in line else f'there is no {line!r}'
    if line:
        return line
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line if frames else None) or type(error).__name__
