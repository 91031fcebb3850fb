"""A synthetic instance segmentation set in COCO's layout.

For quick starts and tests without a download.
"""

from .dataset import CLASSES, PALETTE, write_shapes

__all__ = ['CLASSES', 'PALETTE', 'write_shapes']
