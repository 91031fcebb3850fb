"""Hooks, registered in mmengine's root registry."""
from .attention_temperature_hook import AttentionTemperatureHook
from .epoch_seed_hook import EpochSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = ['AttentionTemperatureHook', 'EpochSeedHook', 'SafeCheckpointHook']
