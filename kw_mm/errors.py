"""Errors that the user can fix, and errors as one line."""

import traceback


class UserError(Exception):
    """Something the user can fix; the message says what is wrong and what would work."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that does not fit the model."""


class ConfigError(UserError):
    """A part of a config that cannot be built."""


class AnnotationError(UserError):
    """An annotation file with a value that cannot be read as what it is."""


class ImageError(UserError):
    """An image file that is missing, damaged or cut short."""


class BatchSizeError(UserError, ValueError):
    """A batch of one image, of which a batch norm has no statistics."""


def one_line(error: BaseException) -> str:
    """An error's message on one line.

    Of a missing key it says that it is missing; a bare assertion is quoted.
    """
    line = ' '.join(str(error).split())
    if isinstance(error, KeyError) and error.args:
        line = ' '.join(str(error.args[0]).split())
        line = line if ' ' in line else f'there is no {line!r}'
    if line:
        return line
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line if frames else None) or type(error).__name__
