"""Networks whose attention starts as constants: the plain network at every temperature."""

import copy

import pytest
import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse, kw_layers
from kw_mm.warehouse.attention_functions import ATTENTION_FUNCTIONS
from kw_mm.warehouse.plain_start import plain_start

LAYERS = ['0', '1', '4']


def plain_network():
    return nn.Sequential(
        nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 1, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 16),
    ).double()  # fmt: skip


def started(plain, **options):
    """A KW network with the plain one's weights, and what the start says of its errors."""
    net = apply_kernel_warehouse(
        copy.deepcopy(plain), {'all': LAYERS}, attention_norm='LN', **options
    )
    kernels = {name: plain.get_submodule(name).weight.detach() for name in LAYERS}
    start = plain_start(kw_layers(net), kernels)
    net.load_state_dict({**net.state_dict(), **start.entries})
    return net, start.errors


def deviation(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize('function', ATTENTION_FUNCTIONS)
@pytest.mark.parametrize(
    'options',
    [
        dict(budget=1),
        dict(budget=1.5, zero_cell=False),
        dict(budget=4, nonlocal_basis_ratio=1 / 4),
        dict(budget=2, partition=False),
    ],
)
def test_it_is_the_plain_network_at_every_temperature(function, options):
    plain = plain_network()
    net, errors = started(plain, attention_function=function, **options)
    x = torch.randn(2, 16, 6, 6).double()
    assert not errors
    for temperature in (0, 0.3, 1):
        net.warehouses.set_temperature(temperature)
        assert deviation(net(x), plain(x)) < 1e-12
        for name, layer in kw_layers(net).items():
            kernel = layer.plain_kernel.view_as(plain.get_submodule(name).weight)
            assert deviation(kernel, plain.get_submodule(name).weight) < 1e-12


@pytest.mark.parametrize('function', ATTENTION_FUNCTIONS)
@pytest.mark.parametrize('basis', [1, 1 / 4])
def test_everything_learns(function, basis):
    """The last map's weights in the first step, the maps before and behind it in the second."""
    net, _ = started(plain_network(), attention_function=function, nonlocal_basis_ratio=basis)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(2, 16, 6, 6).double()).square().sum().backward()
        moved.append({name for name, p in net.named_parameters() if bool(p.grad.any())})
        optimizer.step()
    later = {
        name
        for name, _ in net.named_parameters()
        if 'fc1' in name or 'norm1' in name or 'fc3' in name
    }
    assert moved[1] == {name for name, _ in net.named_parameters()}
    assert moved[0] == moved[1] - later
    assert all(layer.plain_kernel is None for layer in kw_layers(net).values())


@torch.no_grad()
@pytest.mark.parametrize('function', ['caf', 'caf_unnormalised'])
@pytest.mark.parametrize('budget', [1 / 4, 1 / 2, 3 / 4])
def test_fewer_cells_are_the_best_that_there_are(function, budget):
    """The error is that of the truncated singular value decomposition of all plain cells."""
    plain = plain_network()
    net, errors = started(plain, budget=budget, attention_function=function, cell_ratio=(1, 1 / 2))
    layers = kw_layers(net)
    shapes = {name: layer.partition.kernel_shape for name, layer in layers.items()}
    cells, mixed = (
        torch.cat(
            [
                layers[name].partition.to_cells(kernel.reshape(shapes[name])).flatten(1)
                for name, kernel in kernels.items()
            ]
        )
        for kernels in (
            {name: plain.get_submodule(name).weight for name in LAYERS},
            {name: layers[name].plain_kernel for name in LAYERS},
        )
    )
    values = torch.linalg.svdvals(cells)
    assert len(values) > (n := net.warehouses['all'].num_cells)
    best = float(values[n:].norm() / values.norm())
    assert errors == {'all': pytest.approx(best, rel=1e-6)}
    assert float((mixed - cells).norm() / cells.norm()) == pytest.approx(best, rel=1e-6)
    if function == 'caf':  # every mixture's logits have the same size, as in the exact start
        z = layers['0'].attention.fc2.bias.view(layers['0'].partition.num_mixtures, -1)
        assert torch.allclose(z.abs().sum(dim=1), torch.tensor(float(n)).double())


def test_exact_where_the_cells_span_no_more(function='caf'):
    """Two thirds of the mixtures repeat the others: a third of the cells is enough."""
    plain = nn.Sequential(nn.Conv2d(4, 12, 1, bias=False)).double()
    plain[0].weight.data[4:] = torch.cat([plain[0].weight.data[:4]] * 2) * -2
    net = apply_kernel_warehouse(
        copy.deepcopy(plain), {'all': ['0']}, budget=1 / 3, cell_ratio=(1 / 3, 1),
        attention_function=function,
    )  # fmt: skip
    start = plain_start(kw_layers(net), {'0': plain[0].weight.detach()})
    net.load_state_dict({**net.state_dict(), **start.entries})
    assert deviation(net[0].plain_kernel, plain[0].weight.detach()) < 1e-6


@pytest.mark.parametrize(
    'options, reason',
    [
        (dict(start='all_to_all'), "in layer '0', several of its mixtures start from the same"),
        (dict(start='several_cells', budget=2), 'start from several cells each'),
        (dict(start='none'), 'no start cell of their own'),
        (dict(start='none', budget=1 / 2), 'no start cell of their own'),
        (
            dict(budget=1 / 2, attention_function='softmax'),
            "layer '0' has attention_function='softmax' and zero_cell=True, which cannot .* 'caf'",
        ),
        (dict(budget=1 / 2, zero_cell=False), "attention_function='caf' and zero_cell=False"),
    ],
)
def test_what_has_no_plain_start_is_refused_with_the_reason(options, reason):
    with pytest.raises(ValueError, match=reason):
        started(plain_network(), cell_ratio=(1, 1 / 2), **options)


@torch.no_grad()
def test_cells_that_no_mixture_starts_from_keep_their_values():
    plain = plain_network()
    net = apply_kernel_warehouse(copy.deepcopy(plain), {'all': LAYERS}, budget=2, init='published')
    before = net.warehouses['all'].listed.clone()
    kernels = {name: plain.get_submodule(name).weight for name in LAYERS}
    net.load_state_dict({**net.state_dict(), **plain_start(kw_layers(net), kernels).entries})
    after = net.warehouses['all'].listed
    assert torch.equal(after[1::2], before[1::2]) and not torch.equal(after[::2], before[::2])


def test_warehouses_go_where_the_network_is():
    net, _ = started(plain_network())
    assert {value.dtype for value in net.warehouses['all'].parameters()} == {torch.float64}
    assert net.warehouses.temperature.dtype == torch.float32
