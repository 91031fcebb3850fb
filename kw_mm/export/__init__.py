"""Writing networks into files that other runtimes read."""

from .comparison import Row, compare
from .detection_comparison import DetectionRow
from .formats import FORMATS, runner, write
from .parts import BackbonePart, MapsPart, make_static
from .pipeline import Exported, export
from .request import PARTS, Options

__all__ = [
    'BackbonePart',
    'DetectionRow',
    'Exported',
    'FORMATS',
    'MapsPart',
    'Options',
    'PARTS',
    'Row',
    'compare',
    'export',
    'make_static',
    'runner',
    'write',
]
