"""Writing networks into files that other runtimes read."""

from .comparison import Row, compare
from .formats import FORMATS, runner, write
from .parts import BackbonePart, DetectorPart
from .pipeline import PARTS, export
from .plain import make_static

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
