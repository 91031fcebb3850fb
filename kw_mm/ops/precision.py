"""Attention in full precision under autocast.

Attention branches see averages that differ little from image to image, and their batch norms
magnify the differences: half precision's rounding would come out as noise, its range as infinite
gradients. They are small; features and kernels stay in autocast's dtype.
"""

from contextlib import nullcontext
from typing import ContextManager

import torch
from torch import Tensor


def is_autocast(device: str) -> bool:
    """Whether autocast is on for a kind of device."""
    return torch.is_autocast_cpu_enabled() if device == 'cpu' else torch.is_autocast_enabled()


def autocast_dtype(device: str) -> torch.dtype | None:
    """autocast's dtype on a kind of device; None where it is off."""
    if not is_autocast(device):
        return None
    return torch.get_autocast_cpu_dtype() if device == 'cpu' else torch.get_autocast_gpu_dtype()


def full_precision(x: Tensor) -> ContextManager:
    """Turn autocast off, where it is on."""
    return (
        torch.autocast(x.device.type, enabled=False)
        if is_autocast(x.device.type)
        else nullcontext()
    )


def averaging_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype in which features are averaged: float32 under autocast, otherwise their own (None)."""
    return (
        torch.float32
        if is_autocast(x.device.type) and x.dtype in (torch.float16, torch.bfloat16)
        else None
    )
