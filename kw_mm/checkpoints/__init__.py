"""Checkpoints: reading them safely, adapting any layout on load, conversion, the model zoo."""

from .adapting import LoadsAnyLayout
from .layouts import LayoutNames
from .reading import read_checkpoint
from .zoo import published_models

__all__ = ['LayoutNames', 'LoadsAnyLayout', 'published_models', 'read_checkpoint']
