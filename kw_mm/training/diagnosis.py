"""Turning what mmengine, mmdet and torch raise for a bad config or bad data into a sentence for the user."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ..errors import ConfigError, UserError, one_line
from .annotations import problem_of_split

BUILDING = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    FileNotFoundError,
)
UNREGISTERED = re.compile(r'([\w.]+) is not in the .*registry')
MOST = 160


@contextmanager
def building(part: str, cfg: Any = None) -> Iterator[None]:
    """Name the part of the config that cannot be built.

    Args:
        part: Its key.
        cfg: Its value, quoted where it is short.

    Raises:
        ConfigError: For every error with which a constructor refuses its arguments.
    """
    try:
        yield
    except UserError:
        raise
    except BUILDING as error:
        raise ConfigError(f'{part}{_quoted(cfg)} cannot be built: {_reason(error)}') from error


def _quoted(cfg: Any) -> str:
    text = str(cfg).replace('\n', ' ')
    return f'={text}' if cfg is not None and len(text) <= MOST else ''


def _reason(error: Exception) -> str:
    message = one_line(error)
    if (
        message == 'need at least one array to concatenate'
    ):  # mmengine, of a dataset that lists nothing
        return 'no image is left of it; none has an instance of its classes, or filter_cfg leaves all out'
    unregistered = UNREGISTERED.match(message)
    if not unregistered:
        return message
    name = unregistered.group(1)
    close = difflib.get_close_matches(name, MODELS.module_dict, n=3)
    return f'type={name!r} is registered nowhere; ' + (
        f'close to it are {", ".join(close)}'
        if close
        else "is the package that defines it in custom_imports, as in custom_imports=dict(imports=['kw_mm'])?"
    )


@contextmanager
def data_explained(cfg: Config, *splits: str) -> Iterator[None]:
    """When a run fails, look whether its annotations or images are to blame, and say so.

    Raises:
        UserError: Names the file and what is wrong in it, or what no file could be named for.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, ConfigError):
            raise
        problem = next(
            filter(None, (problem_of_split(cfg, split) for split in splits)), None
        ) or _known(error)
        if problem is None:
            raise
        raise UserError(problem) from error


def _known(error: Exception) -> str | None:
    text = one_line(error)
    if 'Cannot find valid image after' in text:
        return 'no image could be read in a thousand attempts; look at the first that the log says was left out'
    if re.match(r'Target \d+ is out of bounds', text):
        return f'a label is none of the classes that the head predicts ({text}); set its num_classes, or mend the file'
    return None
