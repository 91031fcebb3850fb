"""Memory for transient kernels: used again by every layer, never seen in a result."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from shared_warehouse import shared_warehouse_network
from torch._subclasses.fake_tensor import FakeTensorMode

from kw_mm.ops.backends import cpu
from kw_mm.warehouse import kw_layers


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(cpu, 'MAPPED_BYTES', 1)
    net = shared_warehouse_network()
    net.warehouses.set_temperature(0)
    return net.eval()


def images(seed, batch=3):
    return torch.randn(batch, 8, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('batch', [1, 3])
def test_same_results_as_with_memory_of_ones_own(net, batch):
    expected = [
        net(images(seed, batch)).detach() for seed in range(3)
    ]  # kernels kept for a backward pass
    with torch.no_grad():
        found = [net(images(seed, batch)) for seed in range(3)]
    assert all(torch.equal(*pair) for pair in zip(found, expected))
    assert cpu._recycled.pieces


def test_two_threads_do_not_share_it(net):
    @torch.no_grad()
    def run(seed):
        return [net(images(seed)) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, range(2)))
    for seed, found in enumerate(results):
        expected = net(images(seed)).detach()
        assert all(torch.equal(one, expected) for one in found)


def test_inference_mode_does_not_spoil_it(net):
    cpu._recycled.pieces.clear()
    with torch.inference_mode():
        expected = net(images(0)).clone()
    with torch.no_grad():
        assert torch.equal(net(images(0)), expected)


def test_kernels_that_are_asked_for_are_ones_own(net):
    layer = kw_layers(net)['0']
    with torch.no_grad():
        first = layer.assemble(layer.weigh(torch.ones(2, 8)))
        kept = first.clone()
        net(images(0))
    assert torch.equal(first, kept)


@torch.no_grad()
def test_it_is_memory_of_the_cpu_with_contents(net):
    cpu._recycled.pieces.clear()
    x = images(0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        net(x)
    with torch.device('meta'):
        found = net(x)
    with torch.enable_grad():
        assert torch.equal(found, net(x))
