"""What has a temperature, and what makes its kernels."""

import pytest
from torch import nn

from kw_mm.compared import (
    CGCConv2d,
    CondConv2d,
    DCDConv2d,
    DYConv2d,
    FDConv2d,
    ODConv2d,
    WeightNetConv2d,
)
from kw_mm.models import DynamicResNet, KWLinearClsHead, KWResNet
from kw_mm.protocols import MakesKernels, TemperatureControlled
from kw_mm.warehouse import kw_layers


@pytest.mark.parametrize(
    'make, expected',
    [
        (lambda: KWResNet(18), True),
        (lambda: DynamicResNet(18, dict(type='ODConv2d')), True),
        (lambda: KWLinearClsHead(10, 80), True),
        (lambda: ODConv2d(8, 8, 1), True),
        (lambda: DYConv2d(8, 8, 1), True),
        (lambda: CondConv2d(8, 8, 1), False),
        (lambda: DCDConv2d(8, 8, 1), False),
        (lambda: FDConv2d(32, 32, 1), False),
        (lambda: nn.Conv2d(8, 8, 1), False),
    ],
)
def test_temperature(make, expected):
    assert isinstance(make(), TemperatureControlled) is expected


@pytest.mark.parametrize(
    'kind', [ODConv2d, DYConv2d, CondConv2d, DCDConv2d, CGCConv2d, FDConv2d, WeightNetConv2d]
)
def test_dynamic_convolutions_say_what_a_kernel_costs(kind):
    layer = kind(64, 64, 3, padding=1)
    assert isinstance(layer, MakesKernels) and layer.assembly_macs >= 0


def test_kw_layers_say_what_a_kernel_costs():
    layers = kw_layers(KWResNet(18)).values()
    assert all(isinstance(layer, MakesKernels) for layer in layers)
    assert not isinstance(nn.Conv2d(16, 16, 3), MakesKernels)
