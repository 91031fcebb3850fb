"""Building parts of a config, and saying of each that fails which it is and why."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from .errors import ConfigError, UserError, one_line
from .validation import closest

REFUSALS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    FileNotFoundError,
)
UNREGISTERED = re.compile(r'([\w.]+) is not in the .*registry')
NOTHING_LISTED = 'need at least one array to concatenate'  # mmengine, of an empty dataset
MOST_QUOTED = 160  # characters of a config


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model, with random weights.

    As mmengine's runner does, it takes ``cfg.data_preprocessor`` where the model has none of its
    own.

    Raises:
        UserError: The config has no model, or one that cannot be built.
    """
    if not cfg.get('model'):
        raise UserError(f'config {cfg.filename!r} must have a model, got none')
    shared = {'data_preprocessor': cfg.data_preprocessor} if cfg.get('data_preprocessor') else {}
    with (
        building(f'the model of config {cfg.filename!r}'),
        DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')),
    ):
        return MODELS.build({**shared, **cfg.model})


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
    except REFUSALS as error:
        raise ConfigError(f'{part}{_quoted(cfg)} cannot be built: {_reason(error)}') from error


def _quoted(cfg: Any) -> str:
    text = str(cfg).replace('\n', ' ')
    return f'={text}' if cfg is not None and len(text) <= MOST_QUOTED else ''


def _reason(error: Exception) -> str:
    message = one_line(error)
    if message == NOTHING_LISTED:
        return (
            'no image is left of it; none has an instance of its classes, or filter_cfg leaves '
            'all out'
        )
    unregistered = UNREGISTERED.match(message)
    if not unregistered:
        return message
    name = unregistered.group(1)
    close = closest(name, MODELS.module_dict, cutoff=0.6)
    return f'type={name!r} is registered nowhere; ' + (
        f'close to it are {", ".join(close)}'
        if close
        else 'is the package that defines it in custom_imports, as in '
        "custom_imports=dict(imports=['kw_mm'])?"
    )
