"""Attention in full precision under autocast.

Attention branches see averages that differ little from image to image, and their batch norms
magnify the differences: half precision's rounding would come out as noise, its range as infinite
gradients. They are small; features and kernels stay in autocast's dtype.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def _older_dtype_on(device: str) -> torch.dtype:
    return torch.get_autocast_cpu_dtype() if device == 'cpu' else torch.get_autocast_gpu_dtype()


# The newer one alone can be compiled for a CPU.
_dtype_on: Callable[[str], torch.dtype] = getattr(torch, 'get_autocast_dtype', _older_dtype_on)


def is_autocast(device: str) -> bool:
    """Whether autocast is on for a kind of device."""
    return torch.is_autocast_cpu_enabled() if device == 'cpu' else torch.is_autocast_enabled()


def autocast_dtype(device: str) -> torch.dtype | None:
    """autocast's dtype on a kind of device; None where it is off."""
    return _dtype_on(device) if is_autocast(device) else None


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Turn autocast off on a kind of device."""
    return torch.autocast(device, enabled=False)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Turn autocast off, where it is on."""
    device = x.device.type
    return without_autocast(device) if is_autocast(device) else nullcontext()


def averaging_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype to average features in: float32 under autocast, otherwise their own (None)."""
    return torch.float32 if x.dtype in HALF and is_autocast(x.device.type) else None
