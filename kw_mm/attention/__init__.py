"""Pictures of attention: recording it, its statistics, maps and pages."""

from .visualization_hook import AttentionVisualizationHook

__all__ = ['AttentionVisualizationHook']
