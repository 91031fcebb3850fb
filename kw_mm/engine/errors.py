"""How the command lines report errors: one message, no stack trace, a non-zero exit."""
import functools
import sys
from typing import Callable

from ..errors import UserError


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a tool's ``main``: a :class:`UserError` becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f'error: {error}', file=sys.stderr)
            sys.exit(2)

    return wrapped
