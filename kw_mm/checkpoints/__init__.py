"""Checkpoint layouts: our own, the published one, plain static ones."""
from .published import PublishedNames, convert_published, is_published

__all__ = ['PublishedNames', 'convert_published', 'is_published']
