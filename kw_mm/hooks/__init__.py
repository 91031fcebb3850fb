"""Hooks, registered in mmengine's root registry."""
from .attention_temperature_hook import AttentionTemperatureHook
from .epoch_seed_hook import EpochSeedHook

__all__ = ['AttentionTemperatureHook', 'EpochSeedHook']
