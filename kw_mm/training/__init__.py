"""Training and evaluation: runner, hooks, checks, resuming."""

from .checkpoint_hook import SafeCheckpointHook
from .fsdp import wrap_outside_warehouses
from .image_loading import KWLoadImageFromFile
from .runner import KWRunner
from .seed_hook import EpochSeedHook
from .temperature_hook import AttentionTemperatureHook

__all__ = [
    'AttentionTemperatureHook',
    'EpochSeedHook',
    'KWLoadImageFromFile',
    'KWRunner',
    'SafeCheckpointHook',
    'wrap_outside_warehouses',
]
