"""The published FDConv layers: values, gradients, attentions and frequency groups."""

import zlib

import numpy as np
import pytest
import torch
from golden import fill
from golden_fdconv import error, gradient_row, layer_input, loss, meta, state_dict, values

from kw_mm.compared import FDConv2d
from kw_mm.compared.fdconv_groups import frequency_groups, has_published_groups
from kw_mm.compared.fdconv_layout import from_published_layer

LAYERS, GROUPS = meta('fdconv_layers')['layers'], meta('fdconv_groups')
VALUES = values('fdconv_layers')
RESNET = meta('fdconv_resnet50')
RUNS = [(name, run) for name, about in LAYERS.items() for run in about['runs']]


def build(name):
    """A layer with the golden weights, in float64."""
    about = LAYERS[name]
    layer = FDConv2d(
        about['in_channels'],
        about['out_channels'],
        about['kernel_size'],
        stride=about['stride'],
        padding=about['padding'],
        bias=False,
    )
    layer.load_state_dict(state_dict(about['state_dict']))
    return layer.double()


def run_layer(name, run):
    """(layer, input, output, what its branches gave) with gradients."""
    size, mode = run.split('/')
    layer = build(name).train(mode == 'train')
    seen = {}
    for branch in ('attention', 'band_attention', 'local_attention'):
        module = getattr(layer, branch)
        if module is not None:
            module.register_forward_hook(lambda m, i, o, branch=branch: seen.update({branch: o}))
    x = layer_input(layer.in_channels, *map(int, size.split('x'))).double().requires_grad_()
    out = layer(x)
    loss(out).backward()
    return layer, x, out, seen


@pytest.mark.parametrize('name', LAYERS)
def test_parameters(name):
    layer = build(name)
    assert sum(p.numel() for p in layer.parameters()) == LAYERS[name]['parameters']
    assert layer.kernel_num * layer._divisor == LAYERS[name]['alpha']


@pytest.mark.parametrize('scales_kernels', [None, True, False])
@pytest.mark.parametrize('name, run', RUNS)
def test_drawnand_gradients(name, run, scales_kernels, monkeypatch):
    """Attentions multiply the smaller of kernels and features (None), or always one of them."""
    if scales_kernels is not None:
        monkeypatch.setattr(FDConv2d, 'scales_kernels', lambda self, k, f: scales_kernels)
    layer, x, out, seen = run_layer(name, run)
    about, prefix = LAYERS[name]['runs'][run], f'{name}/{run}/f64/'
    expected = {key[len(prefix) :]: VALUES[key] for key in VALUES if key.startswith(prefix)}
    assert list(out.shape) == about['shape']
    found = dict(output=out, input_grad=x.grad, dft_grad=layer.dft_weight.grad)
    errors = {
        key: error(value, expected.pop(key), about['largest'][key]) for key, value in found.items()
    }
    assert all(value < 1e-10 for value in errors.values()), errors
    rows = np.array([gradient_row(p.grad) for p in published_parameters(layer)])
    of_parameters = expected.pop('param_grads')  # stored, as the attentions, in float32
    assert np.abs(rows - of_parameters).max() < 1e-6 * np.abs(of_parameters).max()
    attention = seen['attention']
    parts = dict(channel=attention.channel, filter=attention.filter, kernel=attention.kernel / 64)
    logits = seen['local_attention'].logit()
    outputs = layer.out_channels * layer.kernel_size[0] ** 2
    by_channel = logits.permute(0, 2, 1, 3, 4).reshape(2, -1, outputs)
    parts['local'] = by_channel
    if layer.kernel_size != (1, 1):
        parts.update(spatial=attention.spatial, bands=seen['band_attention'])
    assert set(parts) == set(expected)
    errors = {key: error(parts[key], expected[key]) for key in parts}
    assert all(value < 1e-6 for value in errors.values()), errors


@pytest.mark.parametrize('name, run', RUNS)
def test_float32(name, run):
    size, mode = run.split('/')
    layer = build(name).float().train(mode == 'train')
    x = layer_input(layer.in_channels, *map(int, size.split('x'))).requires_grad_()
    out = layer(x)
    loss(out).backward()
    largest = LAYERS[name]['runs'][run]['largest']
    for key, value in dict(output=out, input_grad=x.grad, dft_grad=layer.dft_weight.grad).items():
        assert error(value, VALUES[f'{name}/{run}/f64/{key}'], largest[key]) < 1e-5, key


CONVERTED = values('fdconv_initial')


@pytest.mark.parametrize('key', CONVERTED)
def test_plain_kernels_become_the_spectra_of_the_published_tool(key):
    layer = key.removeprefix('dft/')
    shape = RESNET['state_dict'][f'{layer}.dft_weight']
    kernel = 3 if layer.endswith('conv2') else 1
    outputs, inputs = shape[1] // kernel, (shape[2] - 1) * 2 // kernel
    drawn = fill(f'{layer}.weight', (outputs, inputs, kernel, kernel))
    weight = torch.from_numpy(drawn.astype(np.float32))
    converted = FDConv2d(inputs, outputs, kernel, bias=False)
    converted.load_state_dict(dict(weight=weight))
    expected = CONVERTED[key]
    assert error(converted.dft_weight, expected) < 1e-6


def published_parameters(layer):
    """A layer's parameters in the published order, which has a convolution for each band."""
    branches = (layer.attention, layer.band_attention, layer.local_attention)
    yield layer.dft_weight
    for branch in branches:
        if branch is layer.band_attention:
            if branch is not None:
                for band in range(3):
                    for parameter in (branch.weight, branch.bias):
                        part = parameter[band : band + 1].detach()
                        part.grad = parameter.grad[band : band + 1]
                        yield part
        else:
            yield from branch.parameters()


@pytest.mark.parametrize('name', GROUPS)
def test_groups_of_the_published_shapes(name):
    about = GROUPS[name]
    inputs, _, kernel = name.split('_')
    columns = int(inputs) * int(kernel[1:])
    groups = frequency_groups(about['rows'], columns, 64)
    assert groups.shape == (about['rows'], about['columns'])
    assert zlib.crc32(groups.to(torch.uint8).numpy().tobytes()) == about['crc32']
    assert set(groups.flatten().bincount().tolist()) == {about['group_size']}
    assert has_published_groups(about['rows'], columns, 64)


def test_renaming_is_complete():
    for about in LAYERS.values():
        layer = FDConv2d(about['in_channels'], about['out_channels'], about['kernel_size'])
        renamed = from_published_layer(state_dict(about['state_dict']))
        own = {key: value.shape for key, value in layer.state_dict().items()}
        del own['frequency_groups'], own['bias']
        assert {key: value.shape for key, value in renamed.items()} == own
