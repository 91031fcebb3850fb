"""Gradients of a warehouse that several layers share, on their way around autograd."""

import copy
import pickle

import pytest
import torch
from half import HALF
from shared_warehouse import shared_warehouse_network as network
from torch import nn
from torch.utils.checkpoint import checkpoint

from kw_mm.ops import reference_path
from kw_mm.ops.backends import CPU, cpu
from kw_mm.warehouse import apply_kernel_warehouse


def gradients(net, x, run=lambda net, x: net(x)):
    net.zero_grad()
    run(net, x).square().mean().backward()
    return {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}


def same(found, expected, rtol=1e-5):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=rtol, atol=rtol * float(value.abs().max())
        )


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(3, 8, 6, 6)


@pytest.mark.parametrize('tau', [0, 0.4])
@pytest.mark.parametrize(
    'options',
    [{}, dict(budget=2), dict(partition=False), dict(attention_function='softmax')],
    ids=str,
)
def test_fast_and_reference_path_have_the_same_gradients(x, options, tau):
    net = network(**options)
    net.warehouses.set_temperature(tau)
    with reference_path():
        expected = gradients(net, x)
    same(gradients(net, x), expected)


@pytest.mark.parametrize('reentrant', [False, True])
@pytest.mark.parametrize('part', [slice(0, 7), slice(2, 5), slice(2, 7)], ids=str)
def test_a_part_recomputed_in_the_backward_pass(x, part, reentrant):
    """Reentrant: a backward pass within another one, both with layers of the same warehouse."""

    def run(net, x):
        for layer in net[: part.start]:
            x = layer(x)
        x = checkpoint(
            net[part], x if x.requires_grad else x.requires_grad_(), use_reentrant=reentrant
        )
        for layer in net[part.stop : 7]:
            x = layer(x)
        return x

    net = network()
    expected = gradients(net, x)
    same(gradients(net, x.clone(), run), expected)


@pytest.mark.parametrize('worth_a_call', [0, 1e9], ids=['in turn', 'at once'])
def test_kernels_mixed_again_in_the_backward_pass(x, worth_a_call, monkeypatch):
    monkeypatch.setattr(cpu, 'WORTH_A_CALL', worth_a_call)
    kept, again = network(), network(assemble_checkpoint=True)
    mixed, kernels = [], CPU.kernels

    def counted(alpha, *args, **options):
        mixed.append(len(alpha))
        return kernels(alpha, *args, **options)

    monkeypatch.setattr(CPU, 'kernels', counted)
    expected = gradients(kept, x)
    assert len(mixed) == 4
    same(gradients(again, x), expected)
    assert len(mixed) == 4 + 8


def test_an_image_as_large_as_the_kernel_is_not_taken_for_it():
    def one_output(**options):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(4, 1, 3, padding=1))
        return apply_kernel_warehouse(
            net, {'all': ['0']}, attention_norm='LN', **options, init='published'
        )

    x = torch.randn(1, 4, 3, 3)
    same(gradients(one_output(assemble_checkpoint=True), x), gradients(one_output(), x))


@pytest.mark.parametrize('dtype', HALF)
def test_cells_stored_in_lower_precision_for_inference(x, dtype):
    net = network().eval()
    with torch.no_grad():
        expected = net(x)
        net.warehouses.store_cells_as(dtype)
        found = net(x)
    assert found.dtype == torch.float32 and net.warehouses['shared'].cells.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_gradients_accumulate_over_batches(x):
    net = network()
    first, second = gradients(net, x), gradients(net, 2 * x)
    net.zero_grad()
    for batch in (x, 2 * x):
        net(batch).square().mean().backward()
    same(
        {key: p.grad for key, p in net.named_parameters()},
        {key: first[key] + second[key] for key in first},
    )


def test_two_forward_passes_before_their_backward_passes(x):
    net = network()
    first, second = gradients(net, x), gradients(net, 2 * x)
    losses = [net(batch).square().mean() for batch in (x, 2 * x)]
    for loss, expected in zip(losses, (first, second)):
        net.zero_grad()
        loss.backward()
        same({key: p.grad for key, p in net.named_parameters()}, expected)


def test_one_network_twice_in_one_graph(x):
    def twice(net, x):
        return net(net(x))

    net = network()
    with reference_path():
        expected = gradients(net, x, twice)
    same(gradients(net, x, twice), expected)


def test_an_abandoned_backward_pass_leaves_nothing(x):
    net = network()
    expected = gradients(net, x)
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(net(leaf).sum(), leaf)  # the cells' gradients are nobody's here
    same(gradients(net, x), expected)


def test_a_retained_graph_gives_the_same_gradients_again(x):
    net = network()
    loss, cells = net(x).square().mean(), list(net.warehouses.parameters())
    first = torch.autograd.grad(loss, cells, retain_graph=True)
    again = torch.autograd.grad(loss, cells)
    assert all(torch.equal(one, other) for one, other in zip(first, again))


def test_gradients_of_the_cells_alone(x):
    net = network()
    expected = gradients(net, x)
    for key, p in net.named_parameters():
        p.requires_grad_(key.endswith('.cells'))
    same(
        gradients(net, x), {key: value for key, value in expected.items() if key.endswith('.cells')}
    )


def test_frozen_cells_have_none(x):
    net = network()
    expected = gradients(net, x)
    net.warehouses['shared'].requires_grad_(False)
    found = gradients(net, x)
    same(found, {key: value for key, value in expected.items() if key != 'warehouses.shared.cells'})


def test_a_network_in_the_middle_of_a_step_can_be_copied_and_pickled(x):
    net = network()
    out = net(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        same(gradients(twin, x), gradients(net, x))
    out.sum().backward()


@pytest.mark.parametrize('dtype', HALF)
def test_under_autocast_gradients_are_float32_and_close(x, dtype):
    def run(net, x):
        with torch.autocast('cpu', dtype=dtype):
            return net(x).float()

    net = network()
    exact, found = gradients(net, x), gradients(net, x, run)
    for key, value in exact.items():
        assert found[key].dtype == torch.float32
        assert torch.cosine_similarity(found[key].flatten(), value.flatten(), dim=0) > 0.95, key


@pytest.mark.parametrize('dtype', HALF)
def test_kernels_mixed_again_are_those_of_autocast(x, dtype, monkeypatch):
    """Else they would take twice the memory, and be rounded differently."""
    mixed, kernels = [], CPU.kernels

    def recorded(*args, **options):
        mixed.append(kernels(*args, **options))
        return mixed[-1]

    def run(net, x):
        with torch.autocast('cpu', dtype=dtype):
            return net(x).float()

    expected = gradients(network(), x, run)
    monkeypatch.setattr(CPU, 'kernels', recorded)
    same(gradients(network(assemble_checkpoint=True), x, run), expected)
    assert len(mixed) == 4 + 4 and {one.dtype for one in mixed} == {dtype}


@pytest.mark.parametrize('behind_autograd', [False, True])
def test_cells_cast_for_autocast_are_those_of_the_step(x, behind_autograd):
    """In the usual loop a step's loss, and so its graph, lives until the next one's is there."""

    def losses(keep):
        net, found = network(), []
        for _ in range(3):
            with torch.autocast('cpu', dtype=torch.bfloat16):
                loss = net(x).float().square().mean()
            loss.backward()
            found.append(loss.item())
            for p in net.parameters():
                (p.data if behind_autograd else p.detach()).sub_(0.1 * p.grad)
                p.grad = None
            loss = loss if keep else None
        return found

    assert losses(keep=True) == losses(keep=False)


def test_cells_set_free_while_an_earlier_graph_lives(x):
    net = network()
    expected = gradients(net, x)
    net.warehouses.requires_grad_(False)
    loss = net(x).square().mean()
    net.warehouses.requires_grad_(True)
    same(gradients(net, x), expected)
    loss.backward()


def test_channels_last_network(x):
    net = network().eval()
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        net(x.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-6
    )
