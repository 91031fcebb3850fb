"""Building a config's model."""

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..errors import UserError


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model, with random weights.

    As mmengine's runner does, it takes ``cfg.data_preprocessor`` where the model has none of its
    own.

    Raises:
        UserError: The config has no model, or one that cannot be built.
    """
    if not cfg.get('model'):
        raise UserError(f'config {cfg.filename!r} has no model')
    shared = {'data_preprocessor': cfg.data_preprocessor} if cfg.get('data_preprocessor') else {}
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
            return MODELS.build({**shared, **cfg.model})
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, ImportError) as error:
        raise UserError(f'the model of config {cfg.filename!r} cannot be built: {error}') from error
