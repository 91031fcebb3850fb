"""Data that needs no download."""
from .shapes import CLASSES, PALETTE, write_shapes

__all__ = ['CLASSES', 'PALETTE', 'write_shapes']
