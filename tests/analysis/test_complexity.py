import pytest
import torch
from torch import nn

from kw_mm.analysis.complexity import Cost, count_costs
from kw_mm.analysis.report import describe_warehouses
from kw_mm.warehouse import apply_kernel_warehouse


def static_macs(layer, x):
    costs = count_costs(layer, lambda: layer(x))
    assert list(costs) == ['']
    return costs[''].static


@pytest.mark.parametrize(
    'layer, shape, macs',
    [
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 5, 7), 5 * 7 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, (1, 3), stride=2, groups=2), (1, 4, 5, 7), 3 * 3 * 6 * 2 * 3),
        (nn.Conv1d(1, 1, 5, padding=2), (1, 1, 64), 64 * 5),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 7), 5 * 7 * 4 * 6 * 4),
        (nn.Linear(8, 3), (1, 10, 8), 10 * 8 * 3),
        (nn.BatchNorm2d(4), (2, 4, 5, 5), None),
    ],
)
def test_static_layers(layer, shape, macs):
    if macs is None:
        assert count_costs(layer, lambda: layer(torch.zeros(shape))) == {'': Cost(parameters=8)}
    else:
        assert static_macs(layer, torch.zeros(shape)) == macs


def test_parts_are_the_children_and_shared_parameters_count_once():
    net = nn.ModuleDict(
        dict(a=nn.Linear(3, 4), b=nn.Sequential(nn.Linear(4, 4), nn.ReLU()), c=nn.ReLU())
    )
    net['b'].append(net['b'][0])
    costs = count_costs(net, lambda: net['b'](net['a'](torch.zeros(1, 3))))
    assert costs == dict(a=Cost(16, 12), b=Cost(20, 32))  # b's linear layer runs twice


def test_hooks_are_gone_afterwards_even_if_the_model_fails():
    net = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError):
        count_costs(net, lambda: net(torch.zeros(1, 5)))
    assert not net[0]._forward_hooks


@pytest.fixture
def kw():
    net = nn.Sequential(
        nn.Conv2d(32, 64, 3, stride=2), nn.Conv2d(64, 64, 1), nn.Flatten(), nn.Linear(64 * 9, 10)
    )
    plan = {
        'convs': dict(layers=['0', '1'], budget=2),
        'classifier': dict(layers=['3'], cell_ratio=(1, 1 / 9)),
    }
    return apply_kernel_warehouse(net, plan, init='published').eval()


def test_kernels_made_per_image(kw):
    costs = count_costs(kw, lambda: kw(torch.zeros(1, 32, 7, 7)))
    # channels, hidden units, mixtures, cells, size of a cell, values of the output, size of a
    # kernel of one output
    for name, (c, hidden, m, n, cell, output, fan_in) in {
        '0': (32, 16, 9, 22, 64 * 32, 64 * 9, 32 * 9),
        '1': (64, 16, 2, 22, 64 * 32, 64 * 9, 64),
        '3': (576, 36, 9, 9, 10 * 64, 10, 576),
    }.items():
        logits, bias = m * (n + 1), output // (1 if name == '3' else 9)
        assert costs[name] == Cost(
            parameters=c * hidden + 2 * hidden + (hidden + 1) * logits + bias,
            static=output * fan_in,
            attention=c * hidden + hidden * logits,
            assembly=m * n * cell,
        )
    assert costs['warehouses'] == Cost(22 * 64 * 32 + 9 * 10 * 64)


def test_layout_of_warehouses(kw):
    convs, classifier = describe_warehouses(nn.ModuleDict(dict(backbone=kw)))
    assert convs == ('convs', (64, 32, 1, 1), 11, 22, {'backbone.0': 9, 'backbone.1': 2})
    assert classifier == ('classifier', (10, 64, 1, 1), 9, 9, {'backbone.3': 9})
