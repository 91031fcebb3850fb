"""Errors that are the user's to mend: one message, no stack trace, a non-zero exit."""
import functools
import sys
from typing import Callable


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what would work."""


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
