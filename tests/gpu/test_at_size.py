"""The sizes of real networks, at which every loop of a kernel runs more than once.

The small cases of test_operators.py cover the geometries; here blocks are full or ragged, sums are
split, and pipelines are as long as in ResNet-50.
"""

import pytest
import torch
from gpu import BACKENDS, INTERPRETED, attended, autocast, error, mixed, numbers, skip_without

from kw_mm.ops import Geometry, Partition, reference_path
from kw_mm.ops.backends import use_backend
from kw_mm.warehouse import KernelAttention
from kw_mm.warehouse.initialization import STARTS
from kw_mm.warehouse.warehouses import store_cells

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(INTERPRETED, reason="too large for Triton's interpreter"),
]
# kernel (C_out, C_in, k, k), cell (output, input), stride, H = W, batch, n
CASES = {
    '3x3': ((256, 256, 3, 3), (128, 128), 1, 14, 8, 139),
    '3x3 / 2': ((256, 256, 3, 3), (128, 128), 2, 14, 8, 139),
    '3x3, large map': ((64, 64, 3, 3), (64, 64), 1, 56, 8, 47),
    '1x1': ((2048, 512, 1, 1), (256, 256), 1, 7, 8, 188),
}
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('backend', BACKENDS)
def test_convolutions(backend, name, dtype, device):
    skip_without(backend, dtype)
    shape, cell, stride, side, batch, count = CASES[name]
    partition = Partition(shape, cell)
    geometry = Geometry.of(shape[2:], stride=stride, padding=shape[2] // 2)
    scale = (shape[1] * shape[2] ** 2) ** -0.5
    inputs = [
        numbers(batch, shape[1], side, side),
        numbers(batch, partition.num_mixtures, count) * count**-0.5,
        store_cells(numbers(count, *cell) * scale),
        numbers(shape[0]),
    ]
    inputs = [one.float() for one in inputs]
    with reference_path():
        expected = mixed(*(one.double() for one in inputs), partition, geometry)
    there = [one.to(device) for one in inputs]
    there[0] = there[0].contiguous(memory_format=torch.channels_last)
    with use_backend(backend), autocast(device.type, dtype):
        found = mixed(*there, partition, geometry)
    errors = [error(*pair) for pair in zip(found, expected)]
    assert max(errors) < TOLERANCES[dtype], errors


@pytest.mark.parametrize('batch', [5, 33, 128])
@pytest.mark.parametrize('cells', [139, 349, 553])
def test_attention(cells, batch, device):
    """Rows of several cells a lane, and of more than a block holds, which are left to torch."""
    skip_without('triton')
    start = STARTS['one_to_one']([32, cells - 32], 1)[0]
    branch = KernelAttention(512, start, cells).train()
    state, found = {key: value.clone() for key, value in branch.state_dict().items()}, []
    pooled, weights = torch.randn(batch, 512), torch.randn(batch, 32, cells, dtype=torch.float64)
    for dtype, where, name in ((torch.float64, 'cpu', 'torch'), (torch.float32, device, 'triton')):
        branch.load_state_dict(state)
        found.append(attended(branch, pooled, weights, dtype, where, name))
    errors = [error(*pair) for pair in zip(found[1], found[0])]
    assert max(errors) < 1e-4, errors
