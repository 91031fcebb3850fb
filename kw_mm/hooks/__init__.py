"""Hooks, registered in mmengine's root registry."""
from .attention_temperature_hook import AttentionTemperatureHook
from .attention_visualization_hook import AttentionVisualizationHook
from .epoch_seed_hook import EpochSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = ['AttentionTemperatureHook', 'AttentionVisualizationHook', 'EpochSeedHook', 'SafeCheckpointHook']
