"""Checkpoints: reading files safely, layouts (ours, the published one, plain static ones), conversion, the model zoo."""

from .adapting import LoadsAnyLayout
from .names import LayoutNames
from .reading import read_checkpoint
from .zoo import published_models

__all__ = ['LayoutNames', 'LoadsAnyLayout', 'published_models', 'read_checkpoint']
