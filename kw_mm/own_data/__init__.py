"""From a data set of one's own, exported in COCO's format, to a config that trains on it."""

from .new_config import new_config

__all__ = ['new_config']
