"""Writing networks into files that other runtimes read."""
from .check import Row, compare
from .files import FORMATS, runner, write
from .parts import BackbonePart, DetectorPart
from .pipeline import PARTS, export
from .static import make_static

__all__ = ['BackbonePart', 'DetectorPart', 'FORMATS', 'PARTS', 'Row', 'compare', 'export', 'make_static', 'runner', 'write']
