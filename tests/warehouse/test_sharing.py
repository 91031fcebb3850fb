import pytest
import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse, kw_layers
from kw_mm.warehouse.sharing import SHARING_RANGES, WarehousePlan, of_equal_kernels, read_plan

PLAN = {
    'stem': ['s'],
    'stage1': ['a.0', 'a.1'],
    'stage1_depthwise': ['a.2'],
    'stage2': ['b.0'],
    'stage2_depthwise': ['b.1'],
    'stage3': ['c'],
}


def layers(plan):
    return {name: list(warehouse.layers) for name, warehouse in plan.items()}


@pytest.mark.parametrize(
    'sharing_range, expected',
    [
        ('stage', PLAN),
        (
            'layer',
            {
                's': ['s'],
                'a_0': ['a.0'],
                'a_1': ['a.1'],
                'a_2': ['a.2'],
                'b_0': ['b.0'],
                'b_1': ['b.1'],
                'c': ['c'],
            },
        ),
        (
            'two_stages',
            {
                'stem': ['s'],
                'stages1and2': ['a.0', 'a.1', 'b.0'],
                'stages1and2_depthwise': ['a.2', 'b.1'],
                'stages3and4': ['c'],
            },
        ),
    ],
)
def test_sharing_ranges(sharing_range, expected):
    assert layers(SHARING_RANGES[sharing_range](read_plan(PLAN, WarehousePlan()))) == expected


def test_options_of_a_warehouse_go_with_its_layers():
    plan = read_plan(
        {'stage1': dict(layers=['a', 'b'], budget=4), 'stage3': ['c']}, WarehousePlan()
    )
    assert [warehouse.budget for warehouse in SHARING_RANGES['layer'](plan).values()] == [4, 4, 1]
    assert [warehouse.budget for warehouse in SHARING_RANGES['two_stages'](plan).values()] == [4, 1]


@pytest.mark.parametrize(
    'plan, message',
    [
        ({'stage1': ['a'], 'stage2': dict(layers=['b'], budget=2)}, 'stages1and2 cannot share'),
        ({'mine': ['a']}, "sharing_range='two_stages' joins warehouses named stage1.*mine"),
    ],
)
def test_stages_that_cannot_be_joined_are_named(plan, message):
    with pytest.raises(ValueError, match=message):
        SHARING_RANGES['two_stages'](read_plan(plan, WarehousePlan()))


def test_warehouses_of_whole_kernels_have_kernels_of_one_shape():
    shapes = {
        's': (8, 3, 3, 3),
        'a.0': (8, 8, 3, 3),
        'a.1': (8, 8, 1, 1),
        'a.2': (8, 1, 3, 3),
        'b.0': (8, 8, 3, 3),
        'b.1': (8, 1, 3, 3),
        'c': (16, 8, 1, 1),
    }
    plan = SHARING_RANGES['two_stages'](read_plan(PLAN, WarehousePlan()))
    assert layers(of_equal_kernels(plan, shapes)) == {
        'stem': ['s'],
        'stages1and2_8x8x3x3': ['a.0', 'b.0'],
        'stages1and2_8x8x1x1': ['a.1'],
        'stages1and2_depthwise': ['a.2', 'b.1'],
        'stages3and4': ['c'],
    }


def network(**options):
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1),
    )
    return apply_kernel_warehouse(
        net, {'stage1': ['0', '1', '2'], 'stage2': ['3']}, **options, init='published'
    ).eval()


def test_whole_kernels_make_layers_of_one_mixture():
    net = network(partition=False, budget=2)
    found = {name: tuple(warehouse.listed.shape) for name, warehouse in net.warehouses.items()}
    assert found == {
        'stage1_8x8x3x3': (4, 8, 8, 3, 3),
        'stage1_16x8x1x1': (2, 16, 8, 1, 1),
        'stage2': (2, 16, 16, 3, 3),
    }
    assert [layer.partition.num_mixtures for layer in kw_layers(net).values()] == [1, 1, 1, 1]
    x = torch.randn(2, 8, 6, 6)
    alpha = net[1].attention(x.mean(dim=(2, 3)), torch.zeros(()))  # (2, 1, 4)
    for image in range(2):
        kernel = sum(
            alpha[image, 0, j] * net.warehouses['stage1_8x8x3x3'].listed[j] for j in range(4)
        )
        expected = nn.functional.conv2d(x[image : image + 1], kernel, net[1].bias, padding=1)
        torch.testing.assert_close(net[1](x)[image : image + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'sharing_range, shapes',
    [
        ('layer', {'0': (9, 8, 8), '1': (9, 8, 8), '2': (1, 16, 8), '3': (9, 16, 16)}),
        ('stage', {'stage1': (20, 8, 8), 'stage2': (9, 16, 16)}),
        ('two_stages', {'stages1and2': (56, 8, 8)}),
    ],
)
def test_cells_are_the_common_divisor_of_the_layers_that_share_them(sharing_range, shapes):
    net = network(sharing_range=sharing_range)
    assert {
        name: tuple(warehouse.listed.shape[:3]) for name, warehouse in net.warehouses.items()
    } == shapes


@pytest.mark.parametrize('partition', [True, False])
@pytest.mark.parametrize('sharing_range', SHARING_RANGES)
def test_plain_kernels_can_be_placed_whatever_is_shared(partition, sharing_range):
    plain = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1),
    )
    net, x = (
        network(partition=partition, sharing_range=sharing_range, budget=2),
        torch.randn(2, 8, 6, 6),
    )
    for mine, other in zip(net, plain):
        mine.place_kernel(other.weight)
        mine.bias = other.bias
    net.warehouses.set_temperature(1)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(start='many'), "start must be one of 'one_to_one'.*, got start='many'"),
        (
            dict(sharing_range='block'),
            "must be one of 'layer', 'stage', 'two_stages', got sharing_range='block'",
        ),
        (dict(attention_function='tanh'), "attention_function='tanh'"),
        (dict(start='shared_cell', budget=2), "warehouse 'stage1': start='shared_cell'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)
