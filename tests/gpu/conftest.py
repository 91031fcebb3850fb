"""Tests that need a GPU: ``python -m pytest -m gpu tests/gpu``.

On a machine without OpenMMLab: ``python -m pytest -m gpu --confcutdir=tests/gpu tests/gpu``, which
leaves the fixtures of ``tests/conftest.py`` out.
"""

import os
from pathlib import Path

import pytest
import torch
from gpu import DEVICE, why_not


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _exact_and_seeded(request):
    """float32 is multiplied as float32: comparisons are with exact values."""
    torch.manual_seed(0)
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
    _end_with_a_lost_gpu(request.node.nodeid)


def _end_with_a_lost_gpu(test: str) -> None:
    """After an illegal access every later test of the process would fail with the same error."""
    if DEVICE != 'cuda' or not torch.cuda.is_available():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        told = f'the GPU was lost in {test}: {str(error).splitlines()[0]}'
        if 'PYTEST_XDIST_WORKER' in os.environ:  # names the test, and begins a new worker
            print(told, flush=True)
            os._exit(1)
        pytest.exit(told, returncode=1)


@pytest.fixture
def device():
    """The device that is tested."""
    return torch.device(DEVICE)
