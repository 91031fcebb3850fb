"""Networks whose batch norms are folded into their convolutions give what they gave before."""

import copy

import pytest
import torch
import torchvision
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from small_networks import FAMILIES, OTHERS, SMALL, build
from torch import nn

from kw_mm.compared import CGCConv2d, CondConv2d, DCDConv2d, DYConv2d, ODConv2d
from kw_mm.errors import UserError
from kw_mm.ops import reference_path, use_backend
from kw_mm.optimizing import find_pairs, optimize_for_inference
from kw_mm.optimizing.folding import FoldedNorm
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@torch.no_grad()
def with_statistics(net):
    """A network in eval mode and float64, whose norms are far from the identity."""
    for part in net.double().modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor in (part.weight, part.bias, part.running_mean):
                if tensor is not None:
                    tensor.normal_()
            if part.running_var is not None:
                part.running_var.uniform_(0.3, 3)
    net.eval()  # mmpretrain's returns nothing
    return net


def deviation(found, expected):
    found, expected = (
        one if isinstance(one, (tuple, list)) else [one] for one in (found, expected)
    )
    return max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, expected)
    )


def folded_norms(net):
    return sum(isinstance(part, FoldedNorm) for part in net.modules())


@torch.no_grad()
def check(net, x, number, **options):
    expected = net(x)
    assert optimize_for_inference(net, **options) is net
    assert folded_norms(net) == number
    assert deviation(net(x), expected) < 1e-10
    return expected


@pytest.mark.parametrize('temperature', [0, 0.4, 1])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('side', [4, 20])  # outputs or kernels have fewer values
@pytest.mark.parametrize('dimensions', [1, 2, 3])
def test_kw_convolutions(dimensions, side, bias, temperature):
    conv, norm = CONVS[dimensions], NORMS[dimensions]
    options = dict(padding=1, bias=bias)
    net = nn.Sequential(
        conv(8, 16, 3, **options),
        norm(16),
        nn.ReLU(),
        conv(16, 32, 3, stride=2, groups=2, **options),
        norm(32, affine=bias),
        conv(32, 16, 1),
        norm(16),
    )
    net = apply_kernel_warehouse(net, dict(one=['0', '5'], two=['3']), init='published', budget=2)
    net.warehouses.set_temperature(temperature)
    x = torch.randn(2, 8, *[side] * dimensions, dtype=torch.double)
    expected = check(with_statistics(net), x, 3)
    with torch.no_grad(), reference_path():
        assert deviation(net(x), expected) < 1e-10
    for backend in ('torch', 'cuda'):
        with torch.no_grad(), use_backend(backend):
            assert deviation(net(x), expected) < 1e-10
    assert all(layer.output_scale is not None for layer in kw_layers(net).values())


@pytest.mark.parametrize('name', [*FAMILIES, 'condconv', 'fdconv', 'dcd'])
def test_our_backbones(name):
    net = build({**FAMILIES, **OTHERS}[name]).double()
    plain_after = {'fdconv', 'dcd'}  # kernels that are more than a sum: their norms stay
    number = len(find_pairs(net))
    assert (number > 10) == (name not in ('convnext', *plain_after)), number
    check(net, torch.randn(2, 3, 96, 96, dtype=torch.double), number)
    left = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    assert not left or name in plain_after


@pytest.mark.parametrize(
    'kind', [CondConv2d, DYConv2d, ODConv2d, CGCConv2d, DCDConv2d], ids=lambda kind: kind.__name__
)
def test_the_compared_convolutions(kind):
    net = with_statistics(nn.Sequential(kind(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()))
    for side in (3, 20):
        x = torch.randn(2, 16, side, side, dtype=torch.double)
        check(copy.deepcopy(net), x, kind in (CondConv2d, DYConv2d, ODConv2d))


PLAIN = {
    'torchvision resnet': (lambda: torchvision.models.resnet18(), 20),
    'torchvision mobilenet': (lambda: torchvision.models.mobilenet_v2(), 52),
    # norms come before convolutions there, but for the first
    'torchvision densenet': (lambda: torchvision.models.DenseNet(8, (2, 2), 16), 1),
    'mmdet resnet': (lambda: MODELS.build(dict(type='mmdet.ResNet', depth=50)), 53),
    'mmpretrain resnet': (lambda: MODELS.build(dict(type='mmpretrain.ResNet', depth=18)), 20),
    'deep stem': (
        lambda: MODELS.build(
            dict(type='StaticResNet', depth=18, deep_stem=True, avg_down=True, **SMALL)
        ),
        22,
    ),
}


@pytest.mark.parametrize('name', PLAIN)
def test_plain_networks(name):
    make, number = PLAIN[name]
    net = with_statistics(make())
    check(net, torch.randn(2, 3, 64, 64, dtype=torch.double), number)


class Twice(nn.Module):
    """A convolution with two norms, as in heads that share one over all levels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.one = nn.Sequential(self.conv, nn.BatchNorm2d(8))
        self.two = nn.Sequential(self.conv, nn.BatchNorm2d(8))

    def forward(self, x):
        return self.one(x) + self.two(x)


class Elsewhere(nn.Sequential):
    """Its convolution's output goes elsewhere, too."""

    def forward(self, x):
        y = self[0](x)
        return y + self[1](y)


def pair(norm=None, conv=None):
    return nn.Sequential(conv or nn.Conv2d(8, 8, 3), norm or nn.BatchNorm2d(8))


def hooked():
    net = pair()
    net[0].register_forward_hook(lambda *args: None)
    return net


NOT_FOLDED = {
    'a convolution used twice': Twice,
    'an output used elsewhere': lambda: Elsewhere(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)),
    'a hook between': hooked,
    'a computed weight': lambda: pair(conv=nn.utils.spectral_norm(nn.Conv2d(8, 8, 3))),
    'statistics of the batch': lambda: pair(nn.BatchNorm2d(8, track_running_stats=False)),
    'another norm': lambda: pair(nn.GroupNorm(2, 8)),
    'something between': lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)),
    'a transposed convolution': lambda: pair(conv=nn.ConvTranspose2d(8, 8, 3)),
    'another order': lambda: ConvModule(
        8, 8, 3, norm_cfg=dict(type='BN'), order=('conv', 'act', 'norm')
    ),
}


@pytest.mark.parametrize('name', NOT_FOLDED)
def test_what_is_left_alone(name):
    net = with_statistics(NOT_FOLDED[name]())
    check(net, torch.randn(2, 8, 9, 9, dtype=torch.double), 0)


def test_pairs_by_name():
    net = with_statistics(Elsewhere(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.BatchNorm2d(8)))
    net.forward = lambda x: net[1](net[2](net[0](x)))
    check(net, torch.randn(2, 8, 9, 9, dtype=torch.double), 1, pairs=[('0', '2')])
    for bad, reason in (
        (('0', '9'), "'9', which is not in the network"),
        (('1', '0'), "'1', a ReLU that nothing can be folded into"),
        (('0', '2'), "'2', a FoldedNorm without running statistics"),
    ):
        with pytest.raises(UserError, match=reason):
            optimize_for_inference(net, pairs=[bad])


def test_it_is_for_inference():
    net, fresh = pair(), pair()
    optimize_for_inference(net)
    with pytest.raises(UserError, match='for inference, got train'):
        net.train()
    assert not net.eval().training
    with pytest.raises(UserError, match="before .* got those of '1' afterwards"):
        net.load_state_dict(fresh.state_dict())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    backbone, fresh = (build(FAMILIES['resnet18']) for _ in range(2))
    with pytest.raises(UserError):
        optimize_for_inference(backbone).load_state_dict(fresh.state_dict())


def test_again_and_saved():
    net = build(FAMILIES['resnet18']).double()
    x = torch.randn(1, 3, 64, 64, dtype=torch.double)
    expected = check(net, x, 20)
    assert deviation(optimize_for_inference(net)(x), expected) < 1e-10
    other = optimize_for_inference(build(FAMILIES['resnet18']).double())
    nn.Module.load_state_dict(other, net.state_dict())
    assert deviation(other(x), expected) < 1e-10
    assert deviation(copy.deepcopy(net)(x), expected) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize('name', ['resnet18', 'mobilenet', 'odconv'])
def test_float32(name):
    """Rounding is no larger than it was, the truth being float64's."""
    net = build(FAMILIES[name])
    x = torch.randn(2, 3, 96, 96)
    found = net(x)
    exact = copy.deepcopy(net).double()(x.double())
    before = deviation([one.double() for one in found], exact)
    folded = optimize_for_inference(net)(x)
    assert deviation([one.double() for one in folded], exact) < 3 * before + 1e-6


@torch.no_grad()
def test_cells_in_half_precision():
    net = build(FAMILIES['resnet18'])
    x = torch.randn(2, 3, 96, 96)
    expected = net(x)
    optimize_for_inference(net, cells_dtype=torch.bfloat16)
    assert {house.cells.dtype for house in net.warehouses.values()} == {torch.bfloat16}
    found = net(x)
    assert all(one.dtype == torch.float32 for one in found)
    assert 1e-6 < deviation(found, expected) < 0.05


@torch.no_grad()
def test_compiled():
    net = apply_kernel_warehouse(
        pair(conv=nn.Conv2d(8, 8, 3, padding=1)), dict(one=['0']), init='published'
    )
    check(with_statistics(net), torch.randn(2, 8, 9, 9).double(), 1, compile='eager')


@torch.no_grad()
def test_exported_and_under_autocast():
    net = apply_kernel_warehouse(
        pair(conv=nn.Conv2d(8, 8, 3, padding=1)), dict(one=['0']), init='published'
    )
    net = optimize_for_inference(with_statistics(net))
    traced = torch.jit.trace(net, torch.randn(2, 8, 9, 9).double())
    for shape in ((1, 8, 3, 3), (3, 8, 20, 20)):
        x = torch.randn(shape, dtype=torch.double)
        assert deviation(traced(x), net(x)) < 1e-10
    net, x = net.float(), torch.randn(2, 8, 20, 20)
    with torch.autocast('cpu', torch.bfloat16):
        found = net(x)
    assert deviation(found.float(), net(x)) < 0.03


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(cuda_graph=True), 'needs the whole network on a GPU, got it on cpu'),
        (dict(cells_dtype=torch.int8), 'cells_dtype must be one of'),
        (dict(cells_dtype=torch.bfloat16), 'needs kernel warehouses, and this Sequential has none'),
    ],
)
def test_options_that_do_not_fit(options, sentence):
    net = pair()
    with pytest.raises(UserError, match=sentence):
        optimize_for_inference(net, **options)
    assert folded_norms(net) == 0 and net.training
