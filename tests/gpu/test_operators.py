"""Every backend computes what the reference computes in float64: values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from gpu import BACKENDS, attended, autocast, error, mixed, numbers, skip_without
from torch import nn

from kw_mm.ops import Geometry, Partition, conv2d_per_image, mixed_linear, reference_path
from kw_mm.ops.backends import use_backend
from kw_mm.warehouse import KernelAttention
from kw_mm.warehouse.initialization import STARTS
from kw_mm.warehouse.warehouses import store_cells

pytestmark = pytest.mark.gpu

# kernel (C_out, C_in / groups, kh, kw), cell (output, input), and the geometry's options
CASES = {
    'pointwise': ((32, 24, 1, 1), (16, 24), {}),
    'pointwise_stride': ((16, 32, 1, 1), (8, 16), dict(stride=2)),
    '3x3': ((32, 16, 3, 3), (16, 16), dict(padding=1)),
    '3x3_stride': ((16, 24, 3, 3), (8, 12), dict(padding=1, stride=2)),
    '3x3_dilation': ((16, 16, 3, 3), (16, 16), dict(padding=2, dilation=2)),
    '3x3_groups': ((16, 8, 3, 3), (8, 8), dict(padding=1, groups=2)),
    'depthwise': ((16, 1, 3, 3), (16, 1), dict(padding=1, groups=16)),
    'even_same': ((16, 16, 4, 4), (16, 16), dict(padding='same')),
    'all_different': (
        (20, 12, 5, 1),
        (10, 12),
        dict(padding=(3, 0), stride=(1, 2), dilation=(2, 1)),
    ),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
CELLS = 19


def inputs_of(name, batch, size=(7, 6)):
    shape, cell, options = CASES[name]
    geometry = Geometry.of(shape[2:], **options)
    partition = Partition(shape, cell)
    x = numbers(batch, shape[1] * geometry.groups, *size)
    alpha = 0.3 * numbers(batch, partition.num_mixtures, CELLS)
    cells = store_cells(numbers(CELLS, *cell))
    return (x, alpha, cells, numbers(shape[0])), (partition, geometry)


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('channels_last', [False, True], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('backend', BACKENDS)
def test_values_and_gradients(backend, name, batch, channels_last, dtype, device):
    skip_without(backend, dtype)
    arguments, more = inputs_of(name, batch)
    half = dtype in (torch.float16, torch.bfloat16)
    stored = torch.float32 if half else dtype
    arguments = [one.to(stored) for one in arguments]
    with reference_path():
        expected = mixed(*(one.double() for one in arguments), *more)
    there = [one.to(device) for one in arguments]
    if channels_last:
        there[0] = there[0].contiguous(memory_format=torch.channels_last)
    with use_backend(backend), autocast(device.type, dtype):
        found = mixed(*there, *more)
    errors = [error(*pair) for pair in zip(found, expected)]
    assert max(errors) < TOLERANCES[dtype], errors
    assert found[0].dtype == dtype and all(one.dtype == stored for one in found[1:])


@pytest.mark.parametrize('backend', ['cuda', 'triton'])
def test_1x1_has_the_precision_of_convolutions(backend, device):
    """TF32, as torch is by default: the same numbers as of ordinary convolutions."""
    skip_without(backend)
    torch.backends.cudnn.allow_tf32 = True
    x, kernels = torch.randn(2, 64, 14, 14), torch.randn(2, 64, 64, 1, 1)
    leaves = [one.to(device).requires_grad_() for one in (x, kernels)]
    weights = torch.randn(2, 64, 14, 14).to(device)
    with use_backend(backend):
        found = conv2d_per_image(*leaves)
    expected = torch.cat([F.conv2d(leaves[0][b : b + 1], leaves[1][b]) for b in range(2)])
    results = [(out, *torch.autograd.grad(out, leaves, weights)) for out in (found, expected)]
    assert max(error(*pair) for pair in zip(*results)) < 1e-5


@pytest.mark.parametrize('half', [False, True], ids=['float32', 'float16'])
@pytest.mark.parametrize('name', ['pointwise', '3x3'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_kernels_mixed_again(backend, name, half, device):
    skip_without(backend, torch.float16 if half else torch.float32)
    arguments, more = inputs_of(name, 2, (4, 3))
    there = [one.to(device, torch.float32) for one in arguments]
    with use_backend(backend), autocast(device.type, torch.float16 if half else torch.float32):
        kept, again = mixed(*there, *more), mixed(*there, *more, recompute=True)
    assert max(error(*pair) for pair in zip(again, kept)) < 1e-6


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_linear(backend, dtype, device):
    skip_without(backend, dtype)
    partition = Partition((24, 32, 1, 1), (8, 16))
    x, alpha = numbers(3, 5, 32).float(), 0.3 * numbers(3, partition.num_mixtures, CELLS).float()
    cells, bias = store_cells(numbers(CELLS, 8, 16)).float(), numbers(24).float()
    with reference_path():
        expected = mixed_linear(x.double(), alpha.double(), cells.double(), partition, None)
    half = dtype in (torch.float16, torch.bfloat16)
    stored = torch.float32 if half else dtype
    there = [one.to(device, stored) for one in (x, alpha, cells, bias)]
    with use_backend(backend), autocast(device.type, dtype):
        found = mixed_linear(*there[:3], partition, there[3])
    assert error(found, expected + bias.double()) < TOLERANCES[dtype]


@pytest.mark.parametrize('backend', BACKENDS)
def test_cells_that_are_whole_kernels(backend, device):
    """partition=False: cells are larger than 1x1."""
    skip_without(backend)
    partition, geometry = Partition((16, 8, 3, 3), (16, 8), (3, 3)), Geometry.of(3, padding=1)
    x, alpha, cells = numbers(2, 8, 5, 5), numbers(2, 1, CELLS), store_cells(numbers(CELLS, 16, 72))
    arguments = [one.float() for one in (x, alpha, cells, numbers(16))]
    with reference_path():
        expected = mixed(*(one.double() for one in arguments), partition, geometry)
    with use_backend(backend):
        found = mixed(*(one.to(device) for one in arguments), partition, geometry)
    assert max(error(*pair) for pair in zip(found, expected)) < 1e-5


@pytest.mark.parametrize('zero_cell', [True, False])
@pytest.mark.parametrize('batch', [5, 17])
@pytest.mark.parametrize('mode', ['training', 'frozen statistics'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_attention(backend, mode, batch, zero_cell, device):
    """A branch's weights, gradients and running statistics, against torch's own in float64."""
    skip_without(backend)
    start = STARTS['one_to_one']([5, 6], 2)[1]
    branch = KernelAttention(40, start, 22, zero_cell=zero_cell)
    branch.norm1.running_mean.uniform_(-1, 1)
    branch.norm1.running_var.uniform_(0.5, 2)
    nn.init.uniform_(branch.norm1.weight)
    nn.init.uniform_(branch.norm1.bias, -0.5, 0.5)
    branch.train(mode == 'training')
    pooled, weights = torch.randn(batch, 40), torch.randn(batch, 6, 22, dtype=torch.float64)
    state, found = {key: value.clone() for key, value in branch.state_dict().items()}, []
    for dtype, where, name in ((torch.float64, 'cpu', 'torch'), (torch.float32, device, backend)):
        branch.load_state_dict(state)
        values = attended(branch, pooled, weights, dtype, where, name)
        statistics = [one.clone() for key, one in branch.state_dict().items() if 'running' in key]
        found.append([*values, *statistics])
        count = int(branch.norm1.num_batches_tracked)
        assert count == (mode == 'training')
    errors = [error(*pair) for pair in zip(found[1], found[0])]
    assert max(errors) < 1e-5, errors


@pytest.mark.parametrize('tau', [0.0, 1.0])
def test_attention_at_the_ends_of_the_temperature(tau, device):
    skip_without('triton')
    branch = KernelAttention(16, STARTS['one_to_one']([4], 1)[0], 4).eval().to(device)
    x, temperature = torch.randn(3, 16, device=device), torch.tensor(tau, device=device)
    with torch.no_grad(), use_backend('torch'):
        expected = branch(x, temperature)
    with torch.no_grad(), use_backend('triton'):
        found = branch(x, temperature)
    assert error(found, expected) < 1e-5


@pytest.mark.parametrize('name', ['mix', 'conv', 'attend'])
def test_operators_say_what_they_do(name, device):
    """Schema, fake tensors with real strides, and autograd, as torch checks them."""
    skip_without('triton')
    ops = torch.ops.kw_mm
    torch.library.opcheck(getattr(ops, name).default, arguments_of(name, device))


def arguments_of(name, device):
    def make(*shape):
        return torch.randn(*shape, device=device, requires_grad=True)

    if name == 'mix':
        cells = store_cells(make(7, 8, 16)).detach().requires_grad_()
        return make(2 * 4, 7), cells, [16, 32, 1, 1, 8, 16], torch.float32
    if name == 'conv':
        x = make(2, 16, 5, 5).detach().contiguous(memory_format=torch.channels_last)
        return x.requires_grad_(), make(2, 8, 16, 3, 3), make(8), [1, 1, 1, 1, 1, 1]
    norm = [make(16), make(16), torch.zeros(16, device=device), torch.ones(16, device=device)]
    beta, tau = torch.zeros(3, 5, device=device), torch.tensor(0.5, device=device)
    return make(4, 32), make(16, 32), *norm, make(15, 16), make(15), beta, tau, True, 1e-5, 1e-3, 4
