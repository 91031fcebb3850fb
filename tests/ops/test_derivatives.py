"""Derivatives of derivatives, forward mode and torch.func's transforms, by every fast path."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

from kw_mm.compared import DYConv2d, ODConv2d
from kw_mm.ops import reference_path
from kw_mm.ops.backends import cpu
from kw_mm.warehouse import apply_kernel_warehouse

# kernel, stride, groups, side: 1x1; patches; several large images in turn; depthwise; grouped
LAYERS = {
    'pointwise': (1, 1, 1, 6),
    'patches': (3, 2, 1, 4),
    'in turn': (3, 1, 1, 9),
    'depthwise': (3, 1, 4, 6),
}


def network(kernel, stride, groups, assemble=False, kind='kw'):
    """Two layers of a warehouse, with attention that depends on the image."""
    torch.manual_seed(0)
    first, second = (nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=groups) for _ in range(2))
    net = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    net(torch.randn(2, 4, 9, 9))
    if kind == 'kw':
        apply_kernel_warehouse(
            net, {'all': ['0', '2']}, attention_norm='LN', assemble_checkpoint=assemble
        )
        net.warehouses.set_temperature(0.3)
    else:
        for name in '02':
            net[int(name)] = kind(4, 4, kernel, stride=stride, padding=kernel // 2)
    return net.double()


def penalty(net, x, path):
    """Gradients, for all parameters and the input, of the norm of the input's gradient."""
    x = x.clone().requires_grad_()
    with path():
        (first,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        loss = first.square().sum()
        wanted = [x, *(p for p in net.parameters() if p.requires_grad)]
        return torch.autograd.grad(loss, wanted, allow_unused=True)


def assert_equal(found, expected):
    assert any(value is not None and value.abs().max() > 0 for value in expected[1:])
    for one, other in zip(found, expected):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


class fast_path:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture(autouse=True)
def every_image_in_turn(monkeypatch):
    """Images are convolved in turn however small they are, and in float64."""
    monkeypatch.setattr(cpu, 'WORTH_A_CALL', 4 * 4 * 9 * 9 * 9)
    monkeypatch.setattr(cpu, 'CONVOLVED_DTYPES', (torch.float64,))


@pytest.mark.parametrize('assemble', [False, True])
@pytest.mark.parametrize('name', LAYERS)
def test_a_gradient_penalty_is_that_of_the_reference_path(name, assemble):
    kernel, stride, groups, side = LAYERS[name]
    net = network(kernel, stride, groups, assemble)
    if side != 9:
        net[5] = nn.Identity()
    for batch in (1, 3):
        x = torch.randn(batch, 4, side, side, dtype=torch.double)
        assert_equal(penalty(net, x, fast_path), penalty(net, x, reference_path))


@pytest.mark.parametrize('kind', [ODConv2d, DYConv2d])
def test_also_of_the_compared_convolutions(kind):
    net = network(3, 1, 1, kind=kind).eval()
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    assert_equal(penalty(net, x, fast_path), penalty(net, x, reference_path))


def test_the_ordinary_backward_pass_is_as_before_beside_it():
    """Sums of gradients of shared cells are not mixed up by a recorded pass in between."""
    net = network(3, 1, 1)
    x = torch.randn(2, 4, 9, 9, dtype=torch.double)
    net(x).square().sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    out = net(x).square().sum()
    torch.autograd.grad(out, list(net.parameters()), create_graph=True, retain_graph=True)
    out.backward()
    for parameter, value in zip(net.parameters(), expected):
        torch.testing.assert_close(parameter.grad, value)


def test_numbers_agree_with_differences():
    net = network(3, 2, 1)
    net[5] = nn.Identity()
    x = torch.randn(2, 4, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda images: net(images).sin(), (x,), atol=1e-6)


@pytest.mark.parametrize('name', LAYERS)
def test_forward_mode(name):
    kernel, stride, groups, side = LAYERS[name]
    net = network(kernel, stride, groups)
    net[5] = nn.Identity()
    x, direction = torch.randn(2, 2, 4, side, side, dtype=torch.double)
    _, pushed = jvp(net, (x,), (direction,))
    step = 1e-6
    with torch.no_grad():
        expected = (net(x + step * direction) - net(x - step * direction)) / (2 * step)
    torch.testing.assert_close(pushed, expected, rtol=1e-5, atol=1e-7)
    with forward_ad.dual_level():
        out = net(forward_ad.make_dual(x, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, pushed)


def test_gradients_of_each_image_and_several_networks_at_once():
    """torch.func's idioms: ``vmap`` over images with ``grad``, and over stacked weights."""
    net = network(3, 1, 1)
    x = torch.randn(3, 4, 9, 9, dtype=torch.double)
    weights = {name: value.detach() for name, value in net.named_parameters()}

    def loss(weights, image):
        return functional_call(net, weights, (image[None],)).square().sum()

    found = vmap(grad(loss), (None, 0))(weights, x)
    for i, image in enumerate(x):
        expected = torch.autograd.grad(net(image[None]).square().sum(), list(net.parameters()))
        for name, value in zip(weights, expected):
            torch.testing.assert_close(found[name][i], value)
    stacked = {name: torch.stack([value, 2 * value]) for name, value in weights.items()}
    both = vmap(lambda weights: functional_call(net, weights, (x,)))(stacked)
    torch.testing.assert_close(both[0], net(x))
    assert not torch.allclose(both[1], both[0])
