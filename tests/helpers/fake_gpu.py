"""Tensors of a GPU that is not there: they have a device and no contents."""

from functools import cache

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@cache
def why_no_fake_gpu() -> str:
    """What this torch says to such a tensor; empty if it has them."""
    try:
        with FakeTensorMode():
            torch.empty(1, device='cuda')
    except (AssertionError, RuntimeError) as error:
        return str(error)
    return ''


needs_fake_gpu = pytest.mark.skipif(
    bool(why_no_fake_gpu()), reason=f'no tensors of a GPU without one: {why_no_fake_gpu():.60}'
)
