"""Pictures of runs, detections and attention."""
from .attention_report import Checkpoint, write_attention_report
from .curves import plot_runs
from .gallery import write_gallery

__all__ = ['Checkpoint', 'plot_runs', 'write_attention_report', 'write_gallery']
