"""Checkpoints: reading files safely, layouts, adapting on load, conversion, the model zoo."""

from . import schemes  # registers them with mmengine
from .adapting import LoadsAnyLayout
from .layouts import LayoutNames
from .reading import read_checkpoint
from .zoo import published_models

__all__ = ['LayoutNames', 'LoadsAnyLayout', 'published_models', 'read_checkpoint', 'schemes']
