"""Data that needs no download, and reading images with care."""
from .loading import KWLoadImageFromFile
from .shapes import CLASSES, PALETTE, write_shapes

__all__ = ['CLASSES', 'KWLoadImageFromFile', 'PALETTE', 'write_shapes']
