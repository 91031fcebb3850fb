"""FDConv against its definition, one image at a time, in float64; its start, its state dict."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from geometries import CONVS
from half import HALF
from mmengine.utils import digit_version
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from kw_mm.compared import FDConv2d
from kw_mm.compared.fdconv_bands import LIMITS, low_passes
from kw_mm.compared.fdconv_groups import frequency_groups, has_published_groups

SMALL = dict(kernel_num=5, min_channels=1)
GEOMETRIES = {
    name: options
    for name, options in {
        **CONVS,
        'one channel': dict(kernel_size=3, padding=1, in_channels=1, out_channels=3),
        'odd matrix': dict(kernel_size=3, padding=1, in_channels=7),
        'pointwise, grouped': dict(kernel_size=1, groups=4),
        'depthwise': dict(kernel_size=3, padding=1, groups=8, out_channels=8),
        'no bias': dict(kernel_size=3, bias=False),
    }.items()
    if options['kernel_size'] in (1, 3)
}


def build(geometry='plain', **options):
    """A layer in which nothing is at its default."""
    geometry = dict(GEOMETRIES[geometry])
    channels = geometry.pop('in_channels', 8), geometry.pop('out_channels', 12)
    return disturb(FDConv2d(*channels, **geometry, **{**SMALL, **options}).double())


@torch.no_grad()
def disturb(layer, scale=0.5):
    for key, value in [*layer.named_parameters(), *layer.named_buffers()]:
        if key.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and not key.endswith('dft_weight'):
            value.normal_().mul_(scale)
    return layer.eval()


# --- the definition
def kernel_of(layer, image):
    """An image's kernel, from section to section of the paper, with loops over groups."""
    pooled = image.mean(dim=(1, 2))
    branch, local = layer.attention, layer.local_attention
    hidden = branch.relu(branch.norm(branch.fc(pooled[None])))[0]
    channel, filter_, group = (
        2 * torch.sigmoid(getattr(branch, f'{name}_fc')(hidden))
        for name in ('channel', 'filter', 'kernel')
    )
    spectrum = torch.view_as_complex(layer.dft_weight[0]) * layer._divisor
    masks = [layer.frequency_groups == k for k in range(layer.kernel_num)]
    spectrum = sum(weight * mask * spectrum for weight, mask in zip(group, masks))
    outputs, inputs, height, width = layer.kernel_shape
    matrix = torch.fft.irfft2(spectrum, s=(outputs * height, inputs * width))
    kernel = matrix.view(outputs, height, inputs, width).transpose(1, 2)
    if branch.spatial_fc is not None:
        kernel = kernel * (2 * torch.sigmoid(branch.spatial_fc(hidden))).view(height, width)
    kernel = kernel * filter_[:, None, None, None]
    normed = F.pad(local.norm(pooled), (local.conv.padding[0],) * 2)
    taps = local.conv.weight[:, 0].view(outputs, height, width, -1)
    rows = []
    for o in range(outputs):
        first = o // (outputs // layer.groups) * inputs  # of the channels that it sees
        factors = [
            channel[c] * 2 * torch.sigmoid(taps[o] @ normed[c : c + taps.shape[-1]])
            for c in range(first, first + inputs)
        ]
        rows.append(kernel[o] * torch.stack(factors))
    return torch.stack(rows)


def banded(layer, image):
    """The image's bands, filtered with masks stretched by torch, and weighted."""
    branch = layer.band_attention
    if branch is None:
        return image
    weights = 2 * torch.sigmoid(F.conv2d(image[None], branch.weight, branch.bias, padding=1))[0]
    lows = [image, *filtered(image[None], image.shape[1:])]
    out = lows[-1].reshape(image.shape)
    for weight, higher, lower in zip(weights, lows, lows[1:]):
        out = out + weight * (higher - lower).reshape(image.shape)
    return out


def filtered(x, size):
    """Low-pass filtered maps by the published masks: a grid, resized, on the whole spectrum."""
    p, q = torch.arange(64), torch.arange(33)
    distance = torch.maximum(torch.minimum(p, 64 - p)[:, None], q[None])
    found = []
    for limit in LIMITS:
        grid = (distance <= limit).float()[None, None]
        mask = F.interpolate(grid, size=(size[0], size[1] // 2 + 1), mode='nearest')
        found.append(torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=tuple(size)))
    return found


def one_by_one(layer, x):
    return torch.cat(
        [
            F.conv2d(
                banded(layer, image)[None],
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


@pytest.mark.parametrize('batch, size', [(1, (20, 21)), (3, (9, 12)), (3, (5, 3))])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_values_and_gradients_of_the_definition(geometry, size, batch):
    layer = build(geometry)
    x = torch.randn(batch, layer.in_channels, *size, dtype=torch.double, requires_grad=True)
    expected, found = one_by_one(layer, x), layer(x)
    torch.testing.assert_close(found, expected)
    weights, inputs = torch.randn_like(found), [x, *layer.parameters()]
    for name, mine, theirs in zip(
        ['input', *dict(layer.named_parameters())],
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
    ):
        torch.testing.assert_close(mine, theirs, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('traced', [False, True])
@pytest.mark.parametrize('height', [1, 2, 3, 64, 65, 127, 164, 188, 220, 244, 328])
def test_filters_are_the_published_masks(height, traced, monkeypatch):
    monkeypatch.setattr('kw_mm.compared.fdconv_bands.is_traced', lambda: traced)
    for width in (1, 2, 7, 64, 99):
        x = torch.randn(1, 1, height, width, dtype=torch.double)
        for mine, theirs in zip(low_passes(x), filtered(x, (height, width))):
            torch.testing.assert_close(mine, theirs)


# --- frequency groups
@pytest.mark.parametrize(
    'rows, columns, kernel_num', [(6, 8, 4), (9, 15, 7), (12, 1, 3), (1, 9, 5)]
)
def test_groups_follow_exact_distances(rows, columns, kernel_num):
    places = [
        ((min(u, rows - u) * columns) ** 2 + (v * rows) ** 2, u, v)
        for u in range(rows)
        for v in range(columns // 2 + 1)
    ]
    groups = frequency_groups(rows, columns, kernel_num)
    for rank, (_, u, v) in enumerate(sorted(places)):
        assert groups[u, v] == rank * kernel_num // len(places)
    assert not has_published_groups(rows, columns, kernel_num)


def test_the_published_order_is_for_64_groups_only():
    assert has_published_groups(64, 64, 64) and not has_published_groups(64, 64, 32)
    sizes = frequency_groups(64, 64, 32).flatten().bincount()
    assert sizes.tolist() == [64 * 33 // 32] * 32


def test_groups_do_not_share_memory():
    first = frequency_groups(6, 8, 4)
    first.zero_()
    assert frequency_groups(6, 8, 4).max() == 3


def test_groups_are_saved_small_and_loaded():
    layer, other = build(), build()
    layer.frequency_groups.copy_(layer.frequency_groups.flip(0))
    x = torch.randn(2, 8, 6, 6, dtype=torch.double)
    other(x).sum().backward()  # lists the members of its own groups
    saved = layer.state_dict()
    assert saved['frequency_groups'].dtype == torch.uint8
    other.load_state_dict(saved)
    out = other(x)
    torch.testing.assert_close(out, layer(x))
    assigned = build()
    assigned.load_state_dict(saved, assign=True)
    torch.testing.assert_close(assigned(x), out)
    other.zero_grad(), layer.zero_grad()
    out.square().sum().backward(), layer(x).square().sum().backward()
    for mine, theirs in zip(other.parameters(), layer.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)


# --- the start
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_it_starts_as_the_plain_convolution(geometry):
    options = dict(GEOMETRIES[geometry])
    channels = options.pop('in_channels', 8), options.pop('out_channels', 12)
    plain = nn.Conv2d(*channels, **options).double()
    layer = build(geometry)  # with attentions that are not neutral
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(2, channels[0], 9, 12, dtype=torch.double)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(layer.plain_kernel(), plain.weight.detach(), rtol=0, atol=1e-14)
    new = FDConv2d(*channels, **options, **SMALL).double()
    expected = F.conv2d(
        x, new.plain_kernel(), new.bias, new.stride, new.padding, new.dilation, new.groups
    )
    torch.testing.assert_close(new(x), expected, rtol=0, atol=1e-13)


def test_the_published_start_saturates_and_ours_does_not():
    """Its filter attention is missed by the initialisation."""
    x = 20 * torch.rand(2, 64, 8, 8)
    for init, is_plain in (('plain', True), ('published', False)):
        layer = FDConv2d(64, 64, 3, padding=1, init=init).eval()
        plain = F.conv2d(x, layer.plain_kernel(), layer.bias, padding=1)
        deviation = (layer(x) - plain).abs().max() / plain.abs().max()
        assert bool(deviation < 1e-5) is is_plain
        attention = layer.attention(x.mean(dim=(2, 3)))
        assert (attention.channel - 1).abs().max() < 0.01
        assert bool((attention.filter - 1).abs().max() < 0.01) is is_plain


def test_a_published_start_keeps_its_attentions_when_plain_weights_are_loaded():
    layer = FDConv2d(32, 32, 1, init='published')
    before = copy.deepcopy(layer.attention.state_dict())
    layer.load_state_dict(nn.Conv2d(32, 32, 1).state_dict())
    after = layer.attention.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_converted_file_has_a_spectrum_only():
    """The published tool converts kernels, and leaves the attentions to the start."""
    layer = build('no bias', kernel_num=4)
    layer.load_state_dict(dict(dft_weight=layer.dft_weight.detach().clone()))
    x = torch.randn(2, 8, 6, 6, dtype=torch.double)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.plain_kernel()))


def test_one_group_is_the_whole_spectrum():
    layer = build(kernel_num=1)
    x = torch.randn(2, 8, 6, 6, dtype=torch.double)
    torch.testing.assert_close(layer(x), one_by_one(layer, x))


# --- which layers are dynamic, and bad options
@pytest.mark.parametrize(
    'args, options, reason',
    [
        ((3, 64, 7), dict(), 'its kernel is 7 x 7'),
        ((64, 64, (3, 1)), dict(), 'its kernel is 3 x 1'),
        ((16, 64, 3), dict(), 'it has 16 channels'),
        ((64, 16, 1), dict(), 'it has 16 channels'),
        ((64, 64, 3), dict(groups=64), 'it has 1 channels a group'),
        ((17, 64, 3), dict(), None),
        ((64, 64, 3), dict(groups=2), None),
    ],
)
def test_which_layers_stay_plain(args, options, reason):
    layer = FDConv2d(*args, **options)
    assert layer.why_plain == reason
    if reason:
        plain = nn.Conv2d(*args, **options)
        layer.load_state_dict(plain.state_dict())
        x = torch.randn(2, args[0], 9, 9)
        assert torch.equal(layer(x), plain(x)) and reason in repr(layer)
        assert layer.assembly_macs == layer.fusion_macs == 0


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(kernel_num=0), 'kernel_num must be a positive integer, got kernel_num=0'),
        (dict(kernel_num=10_000), 'at most the number of coefficients.*544.*got kernel_num=10000'),
        (dict(init='zero'), "init must be one of 'plain', 'published', got init='zero'"),
        (dict(attention_norm='BN'), "attention_norm='BN'"),
        (dict(groups=3), 'groups=3'),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        FDConv2d(32, 32, 1, **options)


def test_a_published_file_of_another_shape_is_told_apart(caplog):
    layer = build(kernel_num=4)
    published = {
        key.replace('attention.norm.', 'KSM_Global.bn.')
        if key.startswith('attention.norm')
        else key: value
        for key, value in layer.state_dict().items()
        if key != 'frequency_groups'
    }
    logging.getLogger('kw_mm').propagate, before = True, logging.getLogger('kw_mm').propagate
    try:
        layer.load_state_dict(published)
    finally:
        logging.getLogger('kw_mm').propagate = before
    assert 'a spectrum of 36 x 24' in caplog.text


# --- dtypes and memory
@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('geometry', ['plain', 'pointwise'])
def test_half_precision(geometry, dtype):
    """Under autocast, and as a half network; Fourier transforms stay in float32."""
    layer = build(geometry).float()
    x = torch.randn(2, 8, 9, 12)
    expected = layer(x)
    with torch.autocast('cpu', dtype=dtype):
        found = layer(x)
        of_half = layer(x.to(dtype))
    for out in (found, of_half, copy.deepcopy(layer).to(dtype)(x.to(dtype))):
        assert out.dtype == dtype
        assert (out.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_channels_last():
    layer = build()
    x = torch.randn(2, 8, 6, 6, dtype=torch.double)
    expected = layer(x)
    layer.to(memory_format=torch.channels_last)
    found = layer(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)
    assert layer.dft_weight.is_contiguous() and layer.dft_weight.is_leaf


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'),
    reason='older compilers break the graph at every layer',
)
@pytest.mark.parametrize('geometry', ['plain', 'pointwise'])
def test_compiled_it_is_one_graph_with_the_same_values_and_gradients(geometry):
    torch._dynamo.reset()
    layer = build(geometry)
    counter = CompileCounterWithBackend('aot_eager')
    compiled, graphs = torch.compile(layer, backend=counter), []
    for batch, height in ((4, 9), (2, 9), (3, 14)):
        x, found = torch.randn(batch, 8, height, 12, dtype=torch.double), []
        for run in (layer, compiled):
            layer.zero_grad()
            out = run(x)
            out.square().mean().backward()
            found.append([out.detach(), *(p.grad.clone() for p in layer.parameters())])
        torch.testing.assert_close(*found)
        graphs.append(counter.frame_count)
    assert graphs[0] == 1 and graphs[1] <= 2 and graphs[2] <= 3


def test_layer_norm_trains_one_image():
    with pytest.raises(ValueError, match="FDConv attention.*attention_norm='LN'"):
        build().train()(torch.randn(1, 8, 6, 6, dtype=torch.double))
    build(attention_norm='LN').train()(torch.randn(1, 8, 6, 6, dtype=torch.double))
