"""The fast path and the reference path are one function."""

import pytest
import torch
from torch import nn

from kw_mm.ops import Geometry, conv2d_per_image, linear_per_image, reference_path
from kw_mm.ops.backends import cpu
from kw_mm.ops.backends.torch import Patches
from kw_mm.ops.pool import average_and_pass

GEOMETRIES = {
    'pointwise': dict(kernel_size=1),
    'pointwise, stride': dict(kernel_size=1, stride=2),
    'pointwise, uneven stride': dict(kernel_size=1, stride=(1, 3)),
    'pointwise, padding': dict(kernel_size=1, padding=1),
    'pointwise, groups': dict(kernel_size=1, groups=2),
    '3x3': dict(kernel_size=3, padding=1),
    '3x3, no padding': dict(kernel_size=3, padding='valid'),
    '3x3, stride': dict(kernel_size=3, padding=1, stride=2),
    '3x3, dilation': dict(kernel_size=3, padding=2, dilation=2),
    '3x3, groups': dict(kernel_size=3, padding=1, groups=4),
    'depthwise': dict(kernel_size=3, padding=1, groups=8),
    'even, same': dict(kernel_size=4, padding='same'),
    '5x1, all different': dict(kernel_size=(5, 1), padding=(3, 0), stride=(1, 2), dilation=(2, 1)),
    '3x3, same, dilation': dict(kernel_size=3, padding='same', dilation=(1, 2)),
}


def case(options, batch, size, out_channels=16):
    conv = nn.Conv2d(8, out_channels, **options)
    x = torch.randn(batch, 8, *size)
    kernels = torch.randn(batch, *conv.weight.shape)
    arguments = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return x, kernels, torch.randn(out_channels), arguments


def run(x, kernels, bias, arguments):
    leaves = [tensor.detach().requires_grad_() for tensor in (x, kernels, bias)]
    out = conv2d_per_image(*leaves, *arguments)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return out, torch.autograd.grad((out * weights).sum(), leaves)


def close(found, expected):
    torch.testing.assert_close(
        found, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max())
    )


@pytest.fixture(params=['at once', 'in turn'])
def several(request, monkeypatch):
    """How several images are convolved: these are too small to be taken in turn unasked."""
    monkeypatch.setattr(cpu, 'WORTH_A_CALL', 0 if request.param == 'in turn' else 1e9)


@pytest.mark.usefixtures('several')
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('size', [(3, 4), (11, 9)])  # fewer and more positions than output channels
@pytest.mark.parametrize('batch', [1, 2, 5])
@pytest.mark.parametrize('name', GEOMETRIES)
def test_values_and_gradients(name, batch, size, channels_last):
    x, kernels, bias, arguments = case(GEOMETRIES[name], batch, size)
    with reference_path():
        expected, expected_gradients = run(x, kernels, bias, arguments)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
        kernels = (
            kernels.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        )  # as assembled from cells
    found, gradients = run(x, kernels, bias, arguments)
    close(found, expected)
    for gradient, expected_gradient in zip(gradients, expected_gradients):
        close(gradient, expected_gradient)


@pytest.mark.usefixtures('several')
@pytest.mark.parametrize(
    'name, size',
    [
        ('pointwise', (3, 4)),
        ('pointwise', (11, 9)),
        ('pointwise, stride', (11, 9)),
        ('3x3', (3, 4)),
        ('3x3, stride', (5, 4)),
    ],
)
def test_channels_last_stays(name, size):
    x, kernels, bias, arguments = case(GEOMETRIES[name], 2, size)
    out = conv2d_per_image(
        x.contiguous(memory_format=torch.channels_last), kernels, bias, *arguments
    )
    assert out.is_contiguous(memory_format=torch.channels_last) and not out.is_contiguous()


def test_patches_are_those_of_unfold():
    x = torch.randn(2, 3, 8, 7, dtype=torch.double, requires_grad=True)
    kernel, stride, padding, dilation = (3, 2), (2, 1), (1, 2), (1, 2)
    geometry = Geometry(kernel, stride, padding, dilation)
    found = Patches.apply(x, geometry)
    expected = nn.functional.unfold(x, kernel, dilation, padding, stride)  # channels slowest
    assert torch.equal(found.unflatten(1, (6, 3)).transpose(1, 2).flatten(1, 2), expected)
    assert torch.autograd.gradcheck(lambda x: Patches.apply(x, geometry), x)


def test_pooling_passes_both_gradients():
    x = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    for use in (
        lambda pooled, y: (pooled.sin()[..., None, None] * y).sum(),
        lambda pooled, y: pooled.sin().sum(),
        lambda pooled, y: y.sin().sum(),
    ):
        (found,) = torch.autograd.grad(use(*average_and_pass(x)), x)
        (expected,) = torch.autograd.grad(use(x.mean(dim=(2, 3)), x), x)
        torch.testing.assert_close(found, expected)


def test_linear_is_a_pointwise_convolution():
    x, weights, bias = torch.randn(3, 5, 8), torch.randn(3, 16, 8), torch.randn(16)
    expected = conv2d_per_image(x.transpose(1, 2)[..., None], weights[..., None, None], bias)[
        ..., 0
    ].transpose(1, 2)
    close(linear_per_image(x, weights, bias), expected)


@pytest.mark.usefixtures('several')
@pytest.mark.parametrize('size, groups', [((1, 1), 1), ((3, 3), 1), ((3, 3), 8)])
@pytest.mark.parametrize('batch', [1, 2])
def test_contiguous_features_stay_contiguous_with_kernels_that_are_not(size, groups, batch):
    """mmcv's RoIAlign reads channels-last features as if they were contiguous."""
    x = torch.randn(batch, 8, 12, 12)
    kernels = torch.randn(batch, 8, *size, 8 // groups).permute(0, 1, 4, 2, 3)
    out = conv2d_per_image(x, kernels, padding=size[0] // 2, groups=groups)
    assert (
        out.is_contiguous() and nn.functional.conv2d(out, torch.randn(4, 8, 3, 3)).is_contiguous()
    )


@pytest.mark.parametrize('name', ['pointwise', '3x3', '3x3, stride'])
def test_in_turn_under_autocast(name, monkeypatch):
    """In autocast's dtype, with gradients in the leaves' own; as exact as all images at once."""
    x, kernels, bias, arguments = case(GEOMETRIES[name], 3, (11, 9))
    exact, exact_gradients = run(x, kernels, bias, arguments)
    monkeypatch.setattr(cpu, 'WORTH_A_CALL', 0)
    with torch.autocast('cpu', torch.bfloat16):
        found, gradients = run(x, kernels, bias, arguments)
    assert found.dtype == torch.bfloat16
    for one, other in zip((found, *gradients), (exact, *exact_gradients)):
        assert (one.float() - other).norm() < 0.01 * other.norm()
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


def test_in_turn_gives_only_the_gradients_that_are_wanted(monkeypatch):
    monkeypatch.setattr(cpu, 'WORTH_A_CALL', 0)
    x, kernels, bias, arguments = case(GEOMETRIES['3x3'], 2, (5, 5))
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        leaves = [
            tensor.clone().requires_grad_(want) for tensor, want in zip((x, kernels, bias), wanted)
        ]
        conv2d_per_image(*leaves, *arguments).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == list(wanted)
