"""DY-Conv, ODConv, CondConv and DCD against their definitions, one image at a time."""

import copy

import pytest
import torch
import torch.nn.functional as F
from geometries import CONVS
from half import HALF
from torch import nn

from kw_mm.compared import (
    CondConv2d,
    CondLinear,
    DCDConv2d,
    DCDLinear,
    DYConv2d,
    FDConv2d,
    MixedConv2d,
    ODConv2d,
    share_routing,
)

GEOMETRIES = {
    **CONVS,
    'depthwise': dict(kernel_size=3, padding=1, groups=8, out_channels=8),
    'no bias': dict(kernel_size=3, bias=False),
}
MIXED = [(DYConv2d, 4), (ODConv2d, 4), (ODConv2d, 1), (CondConv2d, 8)]


def build(kind, kernels, geometry, **options):
    """A layer in which nothing is at its default: bias, norm statistics, logits."""
    geometry = dict(GEOMETRIES[geometry])
    layer = kind(
        8, geometry.pop('out_channels', 12), **geometry, num_kernels=kernels, **options
    ).eval()
    return disturb(layer)


@torch.no_grad()
def disturb(module):
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.normal_()
    return module


def scores(layer, image):
    """Softmax or sigmoid attentions of one image from the branch's own linear maps."""
    branch, pooled = layer.attention, image.mean(dim=(1, 2))[None]
    if isinstance(layer, DYConv2d):
        hidden = F.relu(branch.fc1(pooled))
        return dict(kernel=F.softmax(branch.fc2(hidden) / layer.temperature, dim=1)[0])
    if isinstance(layer, CondConv2d):
        return dict(kernel=torch.sigmoid(branch.fc(pooled))[0])
    hidden = F.relu(branch.norm(branch.fc(pooled)))
    found = {
        name: torch.sigmoid(getattr(branch, f'{name}_fc')(hidden) / layer.temperature)[0]
        for name in ('channel', 'filter', 'spatial')
        if getattr(branch, f'{name}_fc') is not None
    }
    if branch.kernel_fc is not None:
        found['kernel'] = F.softmax(branch.kernel_fc(hidden) / layer.temperature, dim=1)[0]
    return found


def kernel_of(layer, image):
    """W = sum_k alpha_wk alpha_f alpha_c alpha_s W_k, entry by entry."""
    found = scores(layer, image)
    weights = found.get('kernel', torch.ones(1))
    out = sum(weight * kernel for weight, kernel in zip(weights, layer.weight))
    if 'filter' in found:
        out = out * found['filter'][:, None, None, None]
    if 'spatial' in found:
        out = out * found['spatial'].view(layer.kernel_size)
    if 'channel' in found:
        per_group, rows = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        out = torch.stack(
            [
                filter_ * found['channel'][i // rows * per_group :][:per_group, None, None]
                for i, filter_ in enumerate(out)
            ]
        )
    return out


def one_by_one(layer, x):
    return torch.cat(
        [
            F.conv2d(
                image[None],
                kernel_of(layer, image),
                layer.bias,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
            for image in x
        ]
    )


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(20, 21), (3, 3)])  # ODConv multiplies kernels, or features
@pytest.mark.parametrize('geometry', GEOMETRIES)
@pytest.mark.parametrize('kind, kernels', MIXED)
def test_values_and_gradients_of_the_definition(kind, kernels, geometry, size, batch):
    layer = build(kind, kernels, geometry).double()
    if kind is not CondConv2d:
        layer.set_temperature(1.7)
    x = torch.randn(batch, 8, *size, dtype=torch.double, requires_grad=True)
    expected, found = one_by_one(layer, x), layer(x)
    torch.testing.assert_close(found, expected)
    weights, inputs = torch.randn_like(found), [x, *layer.parameters()]
    for name, mine, theirs in zip(
        ['input', *dict(layer.named_parameters())],
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
    ):
        torch.testing.assert_close(mine, theirs, msg=name)


@pytest.mark.parametrize('kernel_size', [1, 3])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('pool_size', [1, 2])
def test_dcd_is_its_decomposition(kernel_size, stride, pool_size):
    """W(x) = Lambda(x) W_0 + P Phi(x) Q^T, whose second term acts at the kernel's centre."""
    options = dict(pool_size=pool_size, init='published')
    layer = DCDConv2d(8, 12, kernel_size, stride, kernel_size // 2, **options).eval()
    layer = disturb(layer).double()
    layer.norm_q, layer.norm_phi = nn.Identity(), nn.Identity()
    x = torch.randn(3, 8, 9, 9, dtype=torch.double)
    phi, scale = layer.attention(F.adaptive_avg_pool2d(x, pool_size).flatten(1))
    assert (
        phi.shape == (3, layer.attention.dim, layer.attention.dim)
        and scale.min() >= 0
        and scale.max() <= 2
    )
    expected = []
    for image, phi_, scale_ in zip(x, phi, scale):
        kernel = scale_[:, None, None, None] * layer.weight
        q, p = layer.q.weight[..., 0, 0], layer.p.weight[..., 0, 0]
        centre = torch.zeros_like(kernel)
        centre[..., kernel_size // 2, kernel_size // 2] = p @ (phi_ + torch.eye(len(phi_))) @ q
        expected.append(
            F.conv2d(image[None], kernel + centre, layer.bias, stride, kernel_size // 2)
        )
    torch.testing.assert_close(layer(x), torch.cat(expected))


def test_cond_linear_mixes_matrices():
    layer = disturb(CondLinear(8, 5, num_kernels=3)).double()
    x = torch.randn(4, 8, dtype=torch.double)
    routing = torch.sigmoid(layer.attention.fc(x))
    expected = torch.stack(
        [
            torch.einsum('k,koi->oi', alpha, layer.weight) @ sample + layer.bias
            for alpha, sample in zip(routing, x)
        ]
    )
    torch.testing.assert_close(layer(x), expected)


def test_dcd_linear_is_its_decomposition():
    layer = disturb(DCDLinear(8, 5, dim=4)).double()
    layer.norm_q, layer.norm_phi = nn.Identity(), nn.Identity()
    x = torch.randn(3, 8, dtype=torch.double)
    phi, scale = layer.attention(x)
    expected = [
        s * (layer.weight @ v + layer.bias)
        + layer.p.weight @ (f + torch.eye(4)) @ layer.q.weight @ v
        for v, f, s in zip(x, phi, scale)
    ]
    torch.testing.assert_close(layer(x), torch.stack(expected))


LAYERS = {
    'DYConv2d': lambda: DYConv2d(8, 8, 3, padding=1),
    'ODConv2d': lambda: ODConv2d(8, 8, 3, padding=1),
    'ODConv2d 1x': lambda: ODConv2d(8, 8, 1, num_kernels=1),
    'CondConv2d': lambda: CondConv2d(8, 8, 3, padding=1),
    # at their own starts, where last layers are zero, those before them have no gradient yet
    'DCDConv2d': lambda: DCDConv2d(8, 8, 3, padding=1, pool_size=2, init='published'),
    'FDConv2d': lambda: FDConv2d(
        8, 8, 3, padding=1, kernel_num=4, min_channels=1, init='published'
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]()


def test_every_parameter_has_a_gradient(layer):
    layer(torch.randn(2, 8, 6, 6)).square().sum().backward()
    without = [
        key for key, p in layer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert not without, without


def test_images_do_not_influence_each_other_in_eval_mode(layer):
    disturb(layer).eval()
    x = torch.randn(4, 8, 8, 8)
    torch.testing.assert_close(
        layer(x), torch.cat([layer(image[None]) for image in x]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('dtype', HALF)
def test_autocast_is_close_to_float32(layer, dtype):
    layer.eval()
    x = torch.randn(2, 8, 8, 8)
    expected = layer(x)
    with torch.autocast('cpu', dtype=dtype):
        found = layer(x)
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_each_kernel_starts_as_a_kaiming_kernel():
    layer = ODConv2d(64, 128, 3)
    std = (2 / (128 * 9)) ** 0.5
    assert [float(kernel.std()) for kernel in layer.weight.detach()] == pytest.approx(
        [std] * 4, rel=0.02
    )


@pytest.mark.parametrize('kind', [DYConv2d, ODConv2d])
def test_temperature_flattens_the_attention_moves_with_the_layer_and_is_saved(kind):
    layer, x = build(kind, 4, 'plain'), torch.randn(3, 8, 6, 6)
    spread = []
    for value in (1, 30):
        layer.set_temperature(value)
        spread.append(float(scores(layer, x[0])['kernel'].detach().std()))
    assert spread[1] < spread[0] / 5
    assert float(layer.state_dict()['temperature']) == 30 and layer.temperature.is_floating_point()
    other = build(kind, 4, 'plain')
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert layer.to(torch.double).temperature.dtype == torch.double


@pytest.mark.parametrize('value', [0, -1, float('nan')])
def test_temperatures_that_are_not_positive_are_refused(value):
    with pytest.raises(ValueError, match='temperature=.*not positive.*begin=30, end=1'):
        DYConv2d(8, 8, 1).set_temperature(value)


@pytest.mark.parametrize('kind', [CondConv2d, DCDConv2d, FDConv2d])
def test_layers_without_a_temperature_do_not_pretend_to_have_one(kind):
    assert not hasattr(kind(8, 8, 1), 'set_temperature') and not hasattr(
        kind(8, 8, 1), 'temperature'
    )


def test_one_image_in_training_is_refused_with_advice():
    layer, x = ODConv2d(8, 8, 3), torch.randn(1, 8, 6, 6)
    with pytest.raises(ValueError, match="ODConv attention.*2 or more images.*attention_norm='LN'"):
        layer(x)
    layer.eval()(x)
    ODConv2d(8, 8, 3, attention_norm='LN')(x)
    with pytest.raises(ValueError, match='DCD attention.*2 or more images'):
        DCDLinear(8, 4)(torch.randn(1, 8))


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: DYConv2d(8, 8, 3, num_kernels=0), 'num_kernels=0'),
        (lambda: CondConv2d(8, 8, 3, num_kernels=2.0), 'num_kernels=2.0'),
        (lambda: ODConv2d(8, 9, 3, groups=2), 'groups=2'),
        (lambda: ODConv2d(8, 8, 3, attention_norm='BN'), "attention_norm='BN'"),
        (lambda: DCDConv2d(8, 8, 3), r'got .*padding=\(0, 0\); padding=\(1, 1\) would do'),
        (lambda: DCDConv2d(8, 8, 3, padding=1, groups=2), 'groups=2'),
        (lambda: DCDConv2d(8, 8, 1, init='zero'), "init must be .*got init='zero'"),
        (lambda: CondLinear(8, 8, num_kernels=-1), 'num_kernels=-1'),
        (
            lambda: share_routing([CondConv2d(8, 8, 1), CondConv2d(8, 8, 1, num_kernels=4)]),
            r'\[4, 8\] kernels',
        ),
    ],
)
def test_bad_options_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Block(nn.Sequential):
    """Three layers of a block with one routing."""

    def __init__(self):
        super().__init__(CondConv2d(8, 16, 3), CondConv2d(16, 4, 3), CondConv2d(4, 8, 1))
        share_routing(list(self))


def test_a_block_shares_the_routing_of_its_input():
    block, x = Block(), torch.randn(3, 8, 9, 9)
    copied = copy.deepcopy(block)
    routing = block[0].attention(x.mean(dim=(2, 3)))
    expected = x
    for layer in block:
        expected = layer.convolve(expected, layer.mix(routing), layer.bias)
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(copied(x), expected)
    assert block[0]._routing is None  # nothing of the graph is kept
    assert [key for key, _ in block.named_parameters() if 'attention' in key] == [
        '0.attention.fc.weight',
        '0.attention.fc.bias',
    ]


def test_a_shared_routing_has_the_first_layers_gradient():
    block, x = Block(), torch.randn(2, 8, 9, 9)
    block(x).sum().backward()
    assert block[0].attention.fc.weight.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match='first layer of its block'):
        block[1](torch.randn(2, 16, 5, 5))


def test_they_take_the_place_of_conv2d_in_convmodule():
    from mmcv.cnn import ConvModule

    import kw_mm  # noqa: F401

    module = ConvModule(
        8, 12, 3, padding=1, conv_cfg=dict(type='ODConv2d', num_kernels=2), norm_cfg=dict(type='BN')
    )
    before = module.conv.weight.detach().clone()
    module.init_weights()
    assert isinstance(module.conv, MixedConv2d) and module.conv.bias is None
    assert torch.equal(module.conv.weight, before)
    assert module(torch.randn(2, 8, 6, 6)).shape == (2, 12, 6, 6)


@pytest.mark.parametrize('kind, kernels', MIXED)
def test_channels_last_network(kind, kernels):
    layer = build(kind, kernels, 'plain').double()
    x = torch.randn(2, 8, 6, 6, dtype=torch.double)
    expected = layer(x)
    layer.to(memory_format=torch.channels_last)
    found = layer(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)
    assert layer.weight.dtype == torch.double and layer.weight.dim() == 5 and layer.weight.is_leaf


@torch.no_grad()
@pytest.mark.parametrize('kind, kernels', [*MIXED, (CondConv2d, 3)])
@pytest.mark.parametrize('geometry', ['plain', 'depthwise'])
def test_from_a_plain_kernel_it_is_the_plain_convolution(kind, kernels, geometry):
    layer = build(kind, kernels, geometry).double()
    kernel = torch.randn(layer.weight.shape[1:]).double()
    layer.load_state_dict({**layer.state_dict(), **layer.plain_entries(kernel)})
    x = torch.randn(2, 8, 9, 9).double()
    for temperature in (30, 1) if hasattr(layer, 'set_temperature') else (None,):
        if temperature:
            layer.set_temperature(temperature)
        torch.testing.assert_close(layer(x), plain_conv(layer, x, kernel), rtol=0, atol=1e-12)


def plain_conv(layer, x, kernel):
    geometry = (layer.stride, layer.padding, layer.dilation, getattr(layer, 'groups', 1))
    return F.conv2d(x, kernel, layer.bias, *geometry)


def test_kernels_that_start_equal_learn_to_differ():
    """Their attentions differ between images, and so do their gradients."""
    for kind in (DYConv2d, ODConv2d, CondConv2d):
        layer = kind(8, 12, 3, num_kernels=4).double()
        kernel = torch.randn(layer.weight.shape[1:]).double()
        layer.load_state_dict({**layer.state_dict(), **layer.plain_entries(kernel)})
        layer(torch.randn(4, 8, 9, 9).double()).square().sum().backward()
        first, *others = layer.weight.grad
        assert all(not torch.allclose(first, other) for other in others), kind
        unmoved = [name for name, p in layer.named_parameters() if not p.grad.any()]
        assert all('attention' in name for name in unmoved)
        with torch.no_grad():
            for p in layer.parameters():
                p -= 1e-3 * p.grad
        layer.zero_grad()
        layer(torch.randn(4, 8, 9, 9).double()).square().sum().backward()
        assert all(bool(p.grad.any()) for p in layer.parameters()), kind


@torch.no_grad()
def test_dcd_from_a_plain_kernel_is_finite_and_plain_in_eval_mode():
    """However far its own norms are from the statistics of what passes them."""
    layer = DCDConv2d(8, 12, 3, padding=1).double().eval()
    kernel = torch.randn(12, 8, 3, 3).double()
    layer.load_state_dict({**layer.state_dict(), **layer.plain_entries(kernel)})
    x = 1e6 * torch.randn(2, 8, 9, 9).double()
    torch.testing.assert_close(layer(x), plain_conv(layer, x, kernel), rtol=1e-12, atol=0)


def test_dcd_starts_as_its_plain_convolution_unless_told_otherwise():
    x = torch.randn(2, 8, 9, 9)
    layer = DCDConv2d(8, 12, 3, padding=1)
    for training in (True, False):
        assert torch.equal(layer.train(training)(x), plain_conv(layer, x, layer.weight))
    layer(x).square().sum().backward()  # what is zero learns at once
    assert layer.p.weight.grad.any() and layer.attention.fc_scale.weight.grad.any()
    published = DCDConv2d(8, 12, 3, padding=1, init='published')
    assert not torch.allclose(published(x), plain_conv(published, x, published.weight))


@torch.no_grad()
@pytest.mark.parametrize('kind', [CondLinear, DCDLinear])
def test_from_a_plain_weight_it_is_the_plain_linear_layer(kind):
    layer = disturb(kind(16, 10).double().eval())
    weight = torch.randn(10, 16).double()
    layer.load_state_dict({**layer.state_dict(), **layer.plain_entries(weight)})
    x = torch.randn(3, 16).double()
    torch.testing.assert_close(layer(x), F.linear(x, weight, layer.bias), rtol=0, atol=1e-12)
