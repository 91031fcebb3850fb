"""Pictures of runs and detections."""
from .curves import plot_runs
from .gallery import write_gallery

__all__ = ['plot_runs', 'write_gallery']
