"""The size of attention, known before anything is allocated."""

import logging
import math

import pytest
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse, kw_layers
from kw_mm.warehouse.attention_size import LEAST_REFUSED, CutWarehouse, check_attention

ALL = dict(reduction=1 / 16, basis=1, most=4)


def convs(*channels, size=1):
    return nn.Sequential(*(nn.Conv2d(one, one, size) for one in channels))


def plan_of(net):
    return {'all': [name for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]}


@pytest.mark.parametrize('budget', [1 / 2, 1, 3])
@pytest.mark.parametrize('basis', [1, 1 / 4])
def test_it_is_that_of_the_layers_that_are_built(budget, basis, monkeypatch):
    seen = {}
    checked = 'kw_mm.warehouse.apply.check_attention'
    monkeypatch.setattr(checked, lambda cut, *args, **options: seen.update(cut))
    net = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 32, 3))
    channels = {name: net[int(name)].in_channels for name in '012'}
    apply_kernel_warehouse(net, plan_of(net), budget=budget, nonlocal_basis_ratio=basis)
    expected = seen['all'].attention_values(channels, 1 / 16, basis)
    built = sum(layer.attention.fc2.weight.numel() for layer in kw_layers(net).values())
    assert expected == built
    assert seen['all'].kernel_values == 32 * 64 * 9 * 2 + 64 * 64
    assert seen['all'].num_cells == net.warehouses['all'].num_cells


def stand_in(*shapes):
    """A network of layers that take no memory to speak of, however large the kernels are."""
    net = nn.Sequential()
    for index, (outputs, inputs, size) in enumerate(shapes):
        layer = nn.Conv2d(inputs, outputs, size, device='meta')
        net.add_module(str(index), layer)
    return net


# 1x1 layers of timm's efficientnet_b0: outputs, inputs
POINTWISE = [(96, 16), (24, 96), (144, 24), (40, 144), (240, 40), (80, 240), (480, 80), (112, 480)]
SQUEEZE = [
    (8, 32),
    (32, 8),
    (4, 96),
    (96, 4),
    (6, 144),
    (10, 240),
    (20, 480),
    (28, 672),
    (48, 1152),
]


@pytest.mark.parametrize(
    'shapes, budget, culprits',
    [
        ([(64, 64, 1), (66, 66, 1)], 1, r'put [01] \((64 x 64|66 x 66)\) into'),
        ([(64, 64, 3), (64, 128, 3), (64, 66, 3)], 1, r'put 2 \(64 x 66\) into'),
        ([(64, 64, 3), (128, 64, 3), (66, 64, 1)], 1, r'put 2 \(66 x 64\) into'),
        (
            [(128, 128, 1)] * 3 + [(130, 128, 1), (128, 130, 1)],
            4,
            r'put 3 \(130 x 128\), 4 \(128 x 130\) into',
        ),
        ([(*shape, 1) for shape in POINTWISE + SQUEEZE], 1, 'put '),
        ([(2048, 2050, 3), (512, 510, 1)], 1, 'put [01]'),
    ],
)
def test_channels_with_little_in_common_are_refused_before_anything_is_made(
    shapes, budget, culprits
):
    net = stand_in(*shapes)
    before = list(net)
    with pytest.raises(ValueError, match='attention would have [0-9,]+ values to mix') as error:
        apply_kernel_warehouse(net, plan_of(net), budget=budget)
    assert list(net) == before and not hasattr(net, 'warehouses')
    text = str(error.value)
    assert "warehouse 'all'" in text and 'max_attention' in text and '\n' not in text
    with pytest.raises(ValueError, match=culprits):
        apply_kernel_warehouse(net, plan_of(net), budget=budget)


def test_the_option_allows_it_and_is_checked():
    net = convs(24, 26)
    apply_kernel_warehouse(net, plan_of(net), max_attention=10_000)
    assert len(kw_layers(net)) == 2
    for value in (0, -1, 'much', math.nan):
        with pytest.raises(ValueError, match='max_attention must be a positive number, got'):
            apply_kernel_warehouse(convs(8), {'all': ['0']}, max_attention=value)
    net = convs(64, 66)
    seen = {}
    with pytest.raises(ValueError, match='attention would have 71,'):
        apply_kernel_warehouse(net, plan_of(net))
    assert not seen


def test_a_small_network_is_only_named_in_the_log(monkeypatch):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger('kw_mm')
    monkeypatch.setattr(logger, 'handlers', [handler])
    apply_kernel_warehouse(convs(16, 18), {'all': ['0', '1']})
    assert not records
    apply_kernel_warehouse(convs(24, 26), {'all': ['0', '1']})
    assert len(records) == 1 and 'attention would have 1,' in records[0].getMessage()


def test_large_attention_to_larger_kernels_is_fine():
    kernels = 4 * LEAST_REFUSED

    class Large(CutWarehouse):
        kernel_values = kernels

        def attention_values(self, *args):
            return int(ratio * kernels)

    one = Large(None, [], 1)
    ratio = 3.9
    check_attention({'a': one}, {}, **ALL)
    ratio = 4.1
    check_attention({'a': one}, {}, **{**ALL, 'most': math.inf})


def test_cells_that_are_a_small_share_are_the_cause():
    net = stand_in((256, 256, 3), (256, 256, 3))
    with pytest.raises(ValueError, match=r'raise cell_ratio=\(0.0625, 0.0625\), or raise max'):
        apply_kernel_warehouse(net, plan_of(net), cell_ratio=(1 / 16, 1 / 16))
