"""Where the tests of ``tests/gpu`` run: on a GPU, or as a rehearsal on a CPU. Needs torch only.

``KW_MM_TEST_DEVICE=cpu`` rehearses; with ``TRITON_INTERPRET=1`` Triton's kernels take part, in its
interpreter, which has no bfloat16.
"""

import os
from contextlib import nullcontext

import pytest
import torch
from half import HALF

from kw_mm.ops import mixed_conv2d, use_backend
from kw_mm.ops.mix import CellGradients, SharedCells

DEVICE = os.environ.get('KW_MM_TEST_DEVICE', 'cuda')
REHEARSED = DEVICE == 'cpu'
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
BACKENDS = ('torch', 'cuda', 'triton', 'triton-conv')


def why_not(device: str = DEVICE) -> str:
    """Why nothing can be tested on the device; empty where it can."""
    if device == 'cuda' and not torch.cuda.is_available():
        return 'torch sees no GPU; KW_MM_TEST_DEVICE=cpu rehearses these tests'
    return ''


def skip_without(backend: str, dtype: torch.dtype = torch.float32) -> None:
    """Skip a test whose backend is not there, or does not compute in a dtype where it runs."""
    if REHEARSED and dtype == torch.float16 and dtype not in HALF:
        pytest.skip('this torch has no float16 on a CPU')
    if not backend.startswith('triton'):
        return
    from kw_mm.ops.backends import why_no_triton

    if reason := why_no_triton():
        pytest.skip(f'a Triton kernel {reason}')
    if REHEARSED and not INTERPRETED:
        pytest.skip('Triton runs on a CPU with TRITON_INTERPRET=1 only')
    if INTERPRETED:
        from triton_interpreter import why_not_interpreted

        if reason := why_not_interpreted():
            pytest.skip(reason)
    if INTERPRETED and dtype == torch.bfloat16:
        pytest.skip('the interpreter multiplies the bits of bfloat16, not the numbers')


def autocast(device: str, dtype: torch.dtype | None):
    """Mixed precision in a dtype of half size, and nothing for others, or for None."""
    # some versions refuse others, even for a context that is off
    half = dtype in (torch.float16, torch.bfloat16)
    return torch.autocast(device, dtype=dtype) if half else nullcontext()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference relative to the expected one's, in float64; NaN is infinite."""
    found, expected = (one.detach().cpu().double() for one in (found, expected))
    value = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    return value if value == value else float('inf')


def numbers(*shape: int) -> torch.Tensor:
    """Random numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64)


def mixed(x, alpha, cells, bias, partition, geometry, **options) -> list[torch.Tensor]:
    """The result, and the gradients of all inputs, of two layers that share the cells."""
    leaves = [one.detach().requires_grad_() for one in (x, alpha, cells, bias)]
    shared = SharedCells(leaves[2], CellGradients())
    out = mixed_conv2d(leaves[0], leaves[1], shared, partition, leaves[3], geometry, **options)
    again = mixed_conv2d(leaves[0], 0.5 * leaves[1], shared, partition, None, geometry, **options)
    total = out.double() + again.double()
    weights = torch.linspace(-1, 1, total.numel(), device=total.device, dtype=torch.float64)
    return [out, *torch.autograd.grad((total.flatten() * weights).sum(), leaves)]


def attended(branch, pooled, weights, dtype, where, backend) -> list[torch.Tensor]:
    """A branch's attention at temperature 0.3, and the gradients of pooled features and parameters.

    The branch is moved to the device and dtype, and its running statistics move in training.
    """
    branch.to(where, dtype)
    x = pooled.to(where, dtype).requires_grad_()
    with use_backend(backend):
        alpha = branch(x, torch.tensor(0.3, device=where, dtype=dtype))
    loss = (alpha * weights.to(where, dtype)).sum()
    return [alpha, *torch.autograd.grad(loss, [x, *branch.parameters()])]
