"""Training and evaluation: runner, hooks, checks, resuming.

Imported with kw_mm: only what registers hooks and functions. The runner is in
:mod:`kw_mm.training.runner`, the image loading in :mod:`kw_mm.training.image_loading`.
"""

from .checkpoint_hook import SafeCheckpointHook
from .fsdp import wrap_outside_warehouses
from .seed_hook import EpochSeedHook
from .temperature_hook import AttentionTemperatureHook

__all__ = [
    'AttentionTemperatureHook',
    'EpochSeedHook',
    'SafeCheckpointHook',
    'wrap_outside_warehouses',
]
