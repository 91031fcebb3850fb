"""Writing networks into files that other runtimes read."""

from .comparison import Row, compare
from .formats import FORMATS, runner, write
from .parts import BackbonePart, DetectorPart, make_static
from .pipeline import PART_CLASSES, export

__all__ = [
    'BackbonePart',
    'DetectorPart',
    'FORMATS',
    'PART_CLASSES',
    'Row',
    'compare',
    'export',
    'make_static',
    'runner',
    'write',
]
