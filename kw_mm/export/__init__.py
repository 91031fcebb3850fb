"""Writing networks into files that other runtimes read."""

from .comparison import Row, compare
from .formats import FORMATS, runner, write
from .parts import BackbonePart, DetectorPart, make_static
from .pipeline import PARTS, export

__all__ = [
    'BackbonePart',
    'DetectorPart',
    'FORMATS',
    'PARTS',
    'Row',
    'compare',
    'export',
    'make_static',
    'runner',
    'write',
]
