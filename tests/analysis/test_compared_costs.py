"""Multiply-adds of the compared dynamic convolutions, counted by hand on one layer each."""

import pytest
import torch
from torch import nn

from kw_mm.analysis.complexity import count_costs
from kw_mm.compared import (
    CondConv2d,
    CondLinear,
    DCDConv2d,
    DCDLinear,
    DYConv2d,
    FDConv2d,
    ODConv2d,
    share_routing,
)

X = (1, 32, 7, 9)  # stride 2: 4 x 5 positions
C3 = dict(kernel_size=3, stride=2, padding=1)
POSITIONS, SIZE = 4 * 5, 64 * 32 * 9  # of a kernel
STATIC = POSITIONS * SIZE


@pytest.mark.parametrize(
    'make, static, attention, assembly',
    [
        (lambda: DYConv2d(32, 64, **C3, num_kernels=3), STATIC, 32 * 8 + 8 * 3, 3 * SIZE),
        (
            lambda: DYConv2d(32, 64, **C3, num_kernels=3, groups=4),
            STATIC // 4,
            32 * 8 + 8 * 3,
            3 * SIZE // 4,
        ),
        (lambda: CondConv2d(32, 64, **C3, num_kernels=5), STATIC, 32 * 5, 5 * SIZE),
        (lambda: ODConv2d(32, 64, **C3), STATIC, 16 * (32 + 32 + 64 + 9 + 4), 4 * SIZE + 2 * SIZE),
        (lambda: ODConv2d(32, 64, **C3, num_kernels=1), STATIC, 16 * (32 + 32 + 64 + 9), 2 * SIZE),
        (lambda: ODConv2d(32, 64, 1), 63 * 64 * 32, 16 * (32 + 32 + 64 + 4), 6 * 64 * 32),
        (
            lambda: ODConv2d(32, 32, **C3, groups=32),
            POSITIONS * 32 * 9,
            16 * (32 + 32 + 9 + 4),
            5 * 32 * 9,
        ),
        # local attention: 3 taps; spectrum 192 x 49; bands: 3 maps at stride^2 as many positions
        (
            lambda: FDConv2d(32, 64, **C3),
            STATIC + POSITIONS * 4 * 27 * 32,
            16 * (32 + 32 + 64 + 9 + 64) + 3 * SIZE,
            2 * 192 * 49 + 3 * SIZE,
        ),
        (
            lambda: FDConv2d(32, 64, 1),
            63 * 64 * 32,
            16 * (32 + 32 + 64 + 64) + 3 * 64 * 32,
            2 * 64 * 17 + 3 * 64 * 32,
        ),
        # pooled 2 x 2: 128 values, L = 11, max(128, 121) / 16 = 8 hidden units
        (
            lambda: DCDConv2d(32, 64, **C3, pool_size=2),
            STATIC + POSITIONS * 11 * (32 + 11 + 64),
            128 * 8 + 8 * 8 + 8 * 121 + 8 * 64,
            0,
        ),
    ],
)
def test_convolutions(make, static, attention, assembly):
    net = nn.ModuleDict(dict(conv=make().eval()))
    cost = count_costs(net, lambda: net['conv'](torch.zeros(X)))['conv']
    assert (cost.static, cost.attention, cost.assembly) == (static, attention, assembly)
    alone = count_costs(net['conv'], lambda: net['conv'](torch.zeros(X)))
    assert sum(part.multiply_adds for part in alone.values()) == cost.multiply_adds


@pytest.mark.parametrize(
    'make, static, attention, assembly',
    [
        (lambda: CondLinear(6, 5, num_kernels=4), 6 * 5, 6 * 4, 3 * 6 * 5 + 4 * 5),
        (lambda: DCDLinear(6, 5, dim=3), 6 * 5 + 3 * (6 + 3 + 5), 6 * 3 + 3 * 3 + 3 * 9 + 3 * 5, 0),
    ],
)
def test_classifiers(make, static, attention, assembly):
    net = nn.ModuleDict(dict(fc=make().eval()))
    cost = count_costs(net, lambda: net['fc'](torch.zeros(1, 6)))['fc']
    assert (cost.static, cost.attention, cost.assembly) == (static, attention, assembly)


def test_a_shared_routing_counts_once():
    net = nn.Sequential(
        nn.Sequential(CondConv2d(4, 6, 1, num_kernels=3), CondConv2d(6, 8, 1, num_kernels=3))
    )
    share_routing(list(net[0]))
    cost = count_costs(net, lambda: net(torch.zeros(1, 4, 2, 2)))['0']
    assert (cost.static, cost.attention, cost.assembly) == (4 * (24 + 48), 4 * 3, 3 * (24 + 48))
