"""Layers over sequences and volumes: KWConv1d and KWConv3d."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import TEMPERATURES, Golden
from half import HALF
from torch import nn

from kw_mm.export import make_static
from kw_mm.ops import reference_path
from kw_mm.warehouse import KWConv1d, KWConv3d, apply_kernel_warehouse, auto_plan, kw_layers
from kw_mm.warehouse.warehouses import store_cells

PLAIN, LAYER = {1: nn.Conv1d, 3: nn.Conv3d}, {1: KWConv1d, 3: KWConv3d}
FUNCTION = {1: F.conv1d, 3: F.conv3d}
SIZE = {1: (13,), 3: (5, 9, 7)}
GEOMETRIES = [
    (1, dict(kernel_size=3, padding=1)),
    (1, dict(kernel_size=1, stride=2)),
    (1, dict(kernel_size=4, padding='same', bias=False)),
    (1, dict(kernel_size=5, stride=3, padding=4, dilation=2, groups=2)),
    (1, dict(kernel_size=3, groups=8)),
    (3, dict(kernel_size=3, padding=1)),
    (3, dict(kernel_size=1, stride=(2, 1, 2), bias=False)),
    (3, dict(kernel_size=(2, 3, 1), padding='same')),
    (3, dict(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 2, 1), dilation=(1, 2, 1))),
    (3, dict(kernel_size=(3, 1, 3), padding=1, groups=4)),
    (3, dict(kernel_size=(3, 1, 2), padding='valid', groups=8)),
]  # fmt: skip


def build(dims, geometry, budget=2, **options):
    """A layer whose attention depends on the input, in float64, and its network."""
    net = nn.Sequential(PLAIN[dims](8, 16, **geometry)).double()
    options = dict(budget=budget, attention_norm='LN', init='published', **options)
    return apply_kernel_warehouse(net, {'all': ['0']}, **options)


def one_at_a_time(layer, x):
    kernels = layer.assemble(layer.weigh(x.flatten(2).mean(2)))
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return torch.cat(
        [
            FUNCTION[x.dim() - 2](sample[None], kernel.view(shape), layer.bias, *geometry)
            for sample, kernel in zip(x, kernels)
        ]
    )


def gradients(net, out):
    loss = (out * torch.linspace(0, 1, out.numel()).double().view_as(out)).sum()
    return torch.autograd.grad(loss, list(net.parameters()))


@torch.no_grad()
@pytest.mark.parametrize('name', ['kw1x_1d', 'kw2x_3d'])
@pytest.mark.parametrize('reference', [False, True])
def test_golden_values(name, reference):
    golden = Golden(name)
    convs = [
        PLAIN[golden.meta['dims']](
            layer['in'], layer['out'], layer['kernel'], layer['stride'], layer['padding'],
            layer['dilation'], layer['groups'], layer['bias'],
        )
        for layer in golden.meta['layers']
    ]  # fmt: skip
    net = nn.Sequential(*(module for conv in convs for module in (conv, nn.ReLU())))
    layers = [str(2 * i) for i in range(len(convs))]
    apply_kernel_warehouse(net, {'all': layers}, budget=golden.meta['budget'])
    net.double().eval()
    own, published = net.state_dict(), golden.state_dict()
    for key, value in published.items():
        _, number, *rest = key.split('.')
        if key == 'warehouse_manager.weights.0':
            own['warehouses.all.cells'] = store_cells(value)
        else:
            own['.'.join([str(2 * int(number)), *rest])] = value
    for name_ in layers:  # the published start, which is in no file
        layer = net.get_submodule(name_)
        own[f'{name_}.attention.beta'] = F.one_hot(
            layer.start_cells, layer.attention.beta.shape[1]
        ).double()
    net.load_state_dict(own)
    shape = golden.meta['input']
    x = torch.from_numpy(np.random.RandomState(1).standard_normal(shape).astype(np.float32))
    for temperature in TEMPERATURES:
        net.warehouses.set_temperature(float(temperature))
        if reference:
            with reference_path():
                found = net(x.double())
        else:
            found = net(x.double())
        expected = torch.from_numpy(golden.outputs[f'tau{temperature}'])
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 1e-9 * float(expected.abs().max())


@pytest.mark.parametrize('dims, geometry', GEOMETRIES)
@pytest.mark.parametrize('recompute', [False, True])
def test_values_and_gradients(dims, geometry, recompute):
    net = build(dims, geometry, assemble_checkpoint=recompute)
    layer, x = net[0], torch.randn(3, 8, *SIZE[dims]).double()
    assert type(layer) is LAYER[dims]
    expected = one_at_a_time(layer, x)
    found = net(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for mine, other in zip(gradients(net, found), gradients(net, expected)):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)
    assert net(x[:1]).shape == PLAIN[dims](8, 16, **geometry)(x[:1].float()).shape


@torch.no_grad()
@pytest.mark.parametrize('dims, geometry', GEOMETRIES)
def test_the_networks_weights_are_kept(dims, geometry):
    plain = nn.Sequential(PLAIN[dims](8, 16, **geometry)).double()
    net = apply_kernel_warehouse(copy.deepcopy(plain), {'all': ['0']}, budget=1)
    x = torch.randn(2, 8, *SIZE[dims]).double()
    for temperature in (0, 1):
        net.warehouses.set_temperature(temperature)
        net.eval()
        torch.testing.assert_close(net(x), plain(x), rtol=0, atol=1e-12)
    assert make_static(net) == 1 and type(net[0]) is PLAIN[dims]
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize('dims, geometry', GEOMETRIES)
def test_what_goes_into_files_serves_other_batches_and_sizes(dims, geometry):
    net = build(dims, geometry).eval()
    traced = torch.jit.trace(net, torch.randn(2, 8, *SIZE[dims]).double(), check_trace=False)
    assert not any('conv' in node.kind() for node in traced.inlined_graph.nodes())
    for batch, more in ((1, 0), (3, 2)):
        x = torch.randn(batch, 8, *(side + more for side in SIZE[dims])).double()
        torch.testing.assert_close(traced(x), net(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('dims', [1, 3])
def test_mixed_precision(dims, dtype):
    net = build(dims, dict(kernel_size=3, padding=1)).float()
    x = torch.randn(2, 8, *SIZE[dims])
    with torch.autocast('cpu', dtype):
        out = net(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), net(x), rtol=0, atol=0.05 * float(out.abs().max()))
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


@torch.no_grad()
@pytest.mark.parametrize('dims', [1, 3])
def test_a_checkpoint_restores_the_network(dims):
    geometry = dict(kernel_size=3)
    net, other = build(dims, geometry).eval(), build(dims, geometry).eval()
    x = torch.randn(2, 8, *SIZE[dims]).double()
    assert not torch.equal(other(x), net(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))


@torch.no_grad()
def test_one_plan_for_layers_of_all_dimensions():
    """They share cells, since cells are 1 in space."""
    net = nn.Sequential(
        nn.Conv1d(64, 64, 3), nn.Unflatten(2, (3, 3)), nn.Conv2d(64, 128, 1),
        nn.Unflatten(3, (3, 1)), nn.Conv3d(128, 64, 1), nn.Flatten(2), nn.Flatten(1),
        nn.Linear(576, 64),
    ).eval()  # fmt: skip
    x = torch.randn(2, 64, 11)
    expected = net(x)
    found = auto_plan(net, x)
    assert found.plan == {'stage2': ['2', '4']} and set(found.left) == {'0', '7'}
    apply_kernel_warehouse(net, {'all': ['0', '2', '4', '7']}, budget=2)
    assert len(kw_layers(net)) == 4
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dims', [1, 3])
def test_same_padding_needs_a_stride_of_1(dims):
    with pytest.raises(ValueError, match="padding must be .* got padding='same' with stride"):
        LAYER[dims](8, 8, 3, stride=2, padding='same', partition=None, attention=None,
                    warehouses=None, warehouse_name='')  # fmt: skip
