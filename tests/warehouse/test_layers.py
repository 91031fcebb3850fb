import copy

import pytest
import torch
import torch.nn.functional as F
from geometries import CONVS
from half import HALF
from torch import nn

from kw_mm.warehouse import KWConv2d, KWLinear, apply_kernel_warehouse

GEOMETRIES = {**CONVS, 'bias': dict(kernel_size=3, bias=True)}


def kw_conv(budget=2, **options):
    options.setdefault('bias', False)
    net = nn.Sequential(nn.Conv2d(8, 12, **options), nn.Conv2d(12, 12, 3, groups=12))
    return apply_kernel_warehouse(
        net, {'first': ['0'], 'second': ['1']}, budget=budget, init='published'
    ).eval()


def assembled_by_hand(layer, x):
    """From the definition: mixture i = sum_j alpha_ij e_j, mixtures put back in order."""
    alpha = layer.attention(x.mean(dim=(2, 3)), layer._shared[0].temperature)
    positions, out_blocks, in_blocks = layer.partition.grid
    cell_out, cell_in = layer.partition.cell_shape
    kernels = torch.zeros(len(x), *layer.partition.kernel_shape)
    for image in range(len(x)):
        for i in range(layer.partition.num_mixtures):
            mixture = sum(
                alpha[image, i, j] * cell
                for j, cell in enumerate(layer.warehouse.listed[..., 0, 0])
            )
            position, block = divmod(i, out_blocks * in_blocks)
            out, inp = divmod(block, in_blocks)
            y, x_ = divmod(position, layer.partition.kernel_shape[3])
            kernels[
                image,
                out * cell_out : (out + 1) * cell_out,
                inp * cell_in : (inp + 1) * cell_in,
                y,
                x_,
            ] = mixture
    return kernels


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('tau', [0, 0.4])
@pytest.mark.parametrize('name', GEOMETRIES)
def test_convolution_equals_one_by_hand_for_each_image(name, batch, tau):
    net = kw_conv(**GEOMETRIES[name])
    net.warehouses.set_temperature(tau)
    layer, x = net[0], torch.randn(batch, 8, 9, 7)
    kernels = assembled_by_hand(layer, x)
    expected = torch.cat(
        [
            F.conv2d(
                image[None],
                kernel,
                layer.bias,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
            for image, kernel in zip(x, kernels)
        ]
    )
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_depthwise():
    net = kw_conv(kernel_size=1)
    layer, x = net[1], torch.randn(2, 12, 6, 6)
    expected = torch.cat(
        [
            F.conv2d(image[None], kernel, layer.bias, groups=12)
            for image, kernel in zip(x, assembled_by_hand(layer, x))
        ]
    )
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape', [(3, 16), (3, 5, 16), (2, 4, 5, 16)])
def test_linear(shape):
    net = apply_kernel_warehouse(
        nn.Sequential(nn.Linear(16, 24)), {'all': ['0']}, cell_ratio=(1, 1 / 4), init='published'
    ).eval()
    x = torch.randn(shape)
    layer = net[0]
    weights = assembled_by_hand(layer, x.reshape(len(x), -1, 16).mean(dim=1)[..., None, None])[
        ..., 0, 0
    ]
    expected = torch.stack(
        [F.linear(sample, weight, layer.bias) for sample, weight in zip(x, weights)]
    )
    assert isinstance(layer, KWLinear)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('budget', [1, 2, 4, 5 / 4])
def test_a_plain_kernel_in_the_start_cells_is_the_plain_layer_at_temperature_1(budget):
    plain = nn.Conv2d(16, 32, 3, stride=2, padding=1)
    options = dict(budget=budget, cell_ratio=(1 / 8, 1 / 4))  # 288 mixtures
    net = apply_kernel_warehouse(
        copy.deepcopy(nn.Sequential(plain)), {'all': ['0']}, **options, init='published'
    ).eval()
    net[0].place_kernel(plain.weight)
    x = torch.randn(2, 16, 10, 10)
    net.warehouses.set_temperature(1)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-5, atol=1e-5)
    net.warehouses.set_temperature(0)
    assert (net(x) - plain(x)).abs().max() > 0.1


def test_a_plain_kernel_does_not_fit_below_budget_1():
    net = kw_conv(budget=1 / 3, kernel_size=3)
    with pytest.raises(ValueError, match='budget < 1'):
        net[0].place_kernel(torch.zeros(12, 8, 3, 3))


def test_a_kernel_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r'\(12, 8, 3, 3\).*\(12, 8, 1, 1\)'):
        kw_conv(kernel_size=3)[0].place_kernel(torch.zeros(12, 8, 1, 1))


def test_images_do_not_influence_each_other_in_eval_mode():
    net, x = kw_conv(kernel_size=3, padding=1), torch.randn(4, 8, 8, 8)
    together = net(x)
    torch.testing.assert_close(
        together, torch.cat([net(image[None]) for image in x]), rtol=1e-4, atol=1e-5
    )


def test_attributes_of_the_replaced_convolution():
    layer = kw_conv(kernel_size=3, stride=2, padding=1)[0]
    assert isinstance(layer, KWConv2d) and not isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride) == (
        8,
        12,
        (3, 3),
        (2, 2),
    )


@pytest.mark.parametrize('dtype', HALF)
def test_autocast_is_close_to_float32(dtype):
    net, x = kw_conv(kernel_size=3, padding=1), torch.randn(2, 8, 8, 8)
    expected = net(x)
    with torch.autocast('cpu', dtype=dtype):
        found = net(x)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
