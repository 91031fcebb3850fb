"""Whole networks on the device: training, compilation, graphs, resuming, memory. torch only."""

import copy
import io

import pytest
import torch
import torch.distributed as dist
from gpu import BACKENDS, DEVICE, INTERPRETED, REHEARSED, autocast, error, skip_without
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kw_mm.ops import reference_path
from kw_mm.ops.backends import use_backend
from kw_mm.warehouse import apply_kernel_warehouse

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(REHEARSED, reason='a CPU has no graphs and no peak of its own')


class Block(nn.Module):
    """A residual block as ResNets have them."""

    def __init__(self, channels, inner):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out)).relu()
        return (x + self.bn3(self.conv3(out))).relu()


def network(channels=32, inner=16, blocks=1, tau=0.4, **options):
    """With the same weights each time; every convolution but the stem draws on one warehouse."""
    torch.manual_seed(0)
    stem = nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )
    net = nn.Sequential(stem, *(Block(channels, inner) for _ in range(blocks)))
    layers = [f'{i}.conv{k}' for i in range(1, blocks + 1) for k in (1, 2, 3)]
    net = apply_kernel_warehouse(net, {'all': layers}, **options)
    net.warehouses.set_temperature(tau)
    return net


def images(batch=4, size=8, dtype=torch.float32):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def gradients(net, x):
    net.zero_grad()
    out = net(x)
    out.double().square().mean().backward()
    return [out, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize('channels_last', [False, True], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('options', [{}, dict(assemble_checkpoint=True)], ids=['kept', 'again'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_gradients_of_a_shared_warehouse(backend, options, channels_last, device):
    skip_without(backend)
    with reference_path():
        expected = gradients(network().double(), images().double())
    net, x = network(**options).to(device), images().to(device)
    if channels_last:
        net, x = (one.to(memory_format=torch.channels_last) for one in (net, x))
    with use_backend(backend):
        for _ in range(2):  # a second pass is no other
            found = gradients(net, x)
    assert max(error(*pair) for pair in zip(found, expected)) < 1e-4


@pytest.mark.parametrize('backend', ('torch', 'cuda', 'auto'))
def test_float64_on_the_device_is_the_reference(backend, device):
    with reference_path():
        expected = gradients(network().double(), images().double())
    with use_backend(backend):
        found = gradients(network().double().to(device), images().double().to(device))
    assert max(error(*pair) for pair in zip(found, expected)) < 1e-10


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_training_steps_in_mixed_precision(backend, dtype, device):
    """With a loss scaler; the loss follows that of float32."""
    skip_without(backend, dtype)
    if not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch.amp.GradScaler is there since torch 2.3')
    exact, found = (losses(backend, device, one) for one in (None, dtype))
    assert exact[-1] < 0.9 * exact[0]
    for one, other in zip(found, exact):
        assert abs(one - other) < 0.05 * other, (found, exact)


def losses(backend, device, dtype, steps=4):
    """Losses of training steps under autocast in a dtype, or without."""
    net = network().to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=dtype is not None)
    x, found = images().to(device), []
    for _ in range(steps):
        optimizer.zero_grad()
        with use_backend(backend), autocast(device.type, dtype):
            loss = (net(x).float() - 1).square().mean()
        with use_backend(backend):
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append(float(loss.detach()))
    assert all(p.grad.isfinite().all() for p in net.parameters())
    return found


@pytest.mark.parametrize('backend', ('torch', 'cuda', 'triton'))
def test_compiled_without_a_graph_break_for_two_batch_sizes(backend, device):
    from torch._dynamo.testing import CompileCounterWithBackend

    skip_without(backend)
    torch._dynamo.reset()
    net = network().to(device).eval()
    counter = CompileCounterWithBackend('aot_eager' if REHEARSED else 'inductor')
    compiled, graphs = torch.compile(net, backend=counter), []
    with torch.no_grad(), use_backend(backend):
        for batch in (4, 2, 3):
            x = images(batch).to(device)
            assert error(compiled(x), net(x)) < 1e-4
            graphs.append(counter.frame_count)
    assert graphs[0] == 1 and graphs[2] <= 2, graphs


@pytest.mark.parametrize('backend', ('torch', 'cuda', 'triton', 'triton-conv'))
def test_compiled_training(backend, device):
    skip_without(backend)
    torch._dynamo.reset()
    x = images().to(device)
    with use_backend(backend):
        expected = gradients(network().to(device).train(), x)
        net = network().to(device).train()
        net.compile(backend='aot_eager' if REHEARSED else 'inductor', fullgraph=True)
        found = gradients(net, x)
    assert max(error(*pair) for pair in zip(found, expected)) < 1e-4


@needs_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_a_captured_forward_pass(backend, dtype, device):
    skip_without(backend)
    net, x = network().to(device).eval(), images().to(device)

    def run(x):
        with torch.no_grad(), use_backend(backend), autocast(DEVICE, dtype):
            return net(x)

    replay, out = captured(lambda: run(x))
    for seed in range(3):
        x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)))
        replay()
        assert error(out, run(x)) < 1e-3


@needs_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('backend', BACKENDS)
def test_a_captured_training_step(backend, dtype, device):
    """Forward and backward; gradients of new images are those of an eager step."""
    skip_without(backend)
    net, x = network().to(device).train(), images().to(device)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()

    def step():
        net.zero_grad(set_to_none=True)
        with use_backend(backend), autocast(DEVICE, dtype):
            loss = net(x).float().square().mean()
        with use_backend(backend):
            loss.backward()
        return [p.grad for p in net.parameters()]

    replay, found = captured(step)
    for seed in range(3):
        x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)))
        replay()
        found_now = [one.clone() for one in found]
        expected = step()
        assert max(error(*pair) for pair in zip(found_now, expected)) < 2e-2


def captured(step):
    """A CUDA graph of a step after a warm-up: how to replay it, and what it writes."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    return graph.replay, out


@pytest.mark.parametrize('way', ['cpu to device', 'device to cpu'])
def test_a_run_goes_on_elsewhere(way, device):
    """Weights, temperature and optimizer state travel between CPU and GPU."""
    places = ['cpu', device] if way.startswith('cpu') else [device, 'cpu']

    def train(net, optimizer, where, steps):
        x = images().to(where)
        for _ in range(steps):
            optimizer.zero_grad()
            (net(x) - 1).square().mean().backward()
            optimizer.step()

    def begin(where):
        net = network().to(where)
        return net, torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)

    net, optimizer = begin('cpu')
    train(net, optimizer, 'cpu', 4)
    expected = list(net.parameters())
    first, first_optimizer = begin(places[0])
    train(first, first_optimizer, places[0], 2)
    file = io.BytesIO()
    torch.save([first.state_dict(), first_optimizer.state_dict()], file)
    file.seek(0)
    state, optimizer_state = torch.load(file, map_location=places[1], weights_only=True)
    second, second_optimizer = begin(places[1])
    second.load_state_dict(state)
    second_optimizer.load_state_dict(optimizer_state)
    train(second, second_optimizer, places[1], 2)
    assert max(error(*pair) for pair in zip(second.parameters(), expected)) < 1e-3


def test_distributed_training_in_one_process(device, tmp_path):
    """DistributedDataParallel (nccl on a GPU) hands on the same gradients."""
    backend = 'gloo' if REHEARSED else 'nccl'
    if backend == 'nccl' and not dist.is_nccl_available():
        pytest.skip('this torch has no nccl')
    net, x = network().to(device), images().to(device)
    expected = [one.clone() for one in gradients(copy.deepcopy(net), x)]
    dist.init_process_group(backend, init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(net, device_ids=None if REHEARSED else [0])
        found = gradients(wrapped, x)
    finally:
        dist.destroy_process_group()
    assert max(error(*pair) for pair in zip(found, expected)) < 1e-5


@needs_gpu
def test_kernels_mixed_again_take_less_memory(device):
    """At a batch where kernels are larger than the features they make."""

    def peak(**options):
        net = network(256, 128, blocks=4, **options).to(device)
        x = images(32, 16).to(device)
        gradients(net, x)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        gradients(net, x)
        return torch.cuda.max_memory_allocated() - before

    kept, again = peak(), peak(assemble_checkpoint=True)
    assert again < 0.75 * kept, (kept, again)


def test_what_is_rehearsed_is_said():
    """The names of the tested backends are all there are."""
    from kw_mm.ops.backends import BACKEND_NAMES

    assert set(BACKENDS) | {'auto'} == set(BACKEND_NAMES)
    assert not INTERPRETED or DEVICE == 'cpu'
