"""DY-Conv and ODConv over sequences are the two-dimensional layers on images of height 1."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kw_mm.compared import DYConv1d, DYConv2d, ODConv1d, ODConv2d

KINDS = [(DYConv1d, DYConv2d), (ODConv1d, ODConv2d)]
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=1, stride=2, bias=False),
    dict(kernel_size=4, padding='same'),
    dict(kernel_size=(5,), stride=(3,), padding=(4,), dilation=2, groups=2),
    dict(kernel_size=3, groups=8),
]


@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('kind, in_two_dimensions', KINDS)
def test_values_and_gradients(kind, in_two_dimensions, geometry):
    layer, plain = kind(8, 16, **geometry).double().eval(), nn.Conv1d(8, 16, **geometry)
    x = torch.randn(3, 8, 13, dtype=torch.double, requires_grad=True)
    found = layer(x)
    assert found.shape == plain(x.float()).shape
    expected = []
    pad = layer.geometry.sides[:2]
    for sample in x:  # one at a time: F.conv1d with the kernel that attention makes of this one
        kernel = kernel_of(layer, sample)
        expected.append(
            F.conv1d(
                F.pad(sample[None], pad), kernel, layer.bias,
                layer.stride[1], 0, layer.dilation[1], layer.groups,
            )
        )  # fmt: skip
    expected = torch.cat(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights, parameters = torch.randn_like(found), [x, *layer.parameters()]
    for mine, other in zip(
        torch.autograd.grad((found * weights).sum(), parameters),
        torch.autograd.grad((expected * weights).sum(), parameters),
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)


def kernel_of(layer, sample):
    """W = sum_k alpha_wk alpha_f alpha_c alpha_s W_k, shape (C_out, C_in / groups, k)."""
    found = layer.attention(sample.mean(1)[None], layer.temperature)
    if isinstance(layer, DYConv1d):
        return torch.einsum('k,kois->ois', found[0], layer.weight[:, :, :, 0])
    kernel = torch.einsum('k,kois->ois', found.kernel[0], layer.weight[:, :, :, 0])
    if found.filter is not None:
        kernel = kernel * found.filter[0][:, None, None]
    if found.spatial is not None:
        kernel = kernel * found.spatial[0]
    per_group = found.channel[0].view(layer.groups, -1)  # (groups, C_in / groups)
    of_filters = per_group.repeat_interleave(layer.out_channels // layer.groups, 0)
    return kernel * of_filters[..., None]


@torch.no_grad()
@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('kind, _', KINDS)
def test_from_a_plain_kernel_it_is_the_plain_convolution(kind, _, geometry):
    plain, layer = nn.Conv1d(8, 16, **geometry).double(), kind(8, 16, **geometry).double().eval()
    entries = {**layer.state_dict(), **layer.plain_entries(plain.weight)}
    layer.load_state_dict({**entries, **({} if plain.bias is None else {'bias': plain.bias})})
    x = torch.randn(3, 8, 13, dtype=torch.double)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)


def test_it_is_a_conv_cfg():
    from mmcv.cnn import ConvModule

    import kw_mm  # noqa: F401

    module = ConvModule(
        8, 12, 3, padding=1, conv_cfg=dict(type='ODConv1d'), norm_cfg=dict(type='BN1d')
    )
    assert isinstance(module.conv, ODConv1d)
    assert module(torch.randn(2, 8, 6)).shape == (2, 12, 6)
