"""The paper's ablations together; and DY-Conv, which is KW without partition, sharing and CAF."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse
from kw_mm.warehouse.attention_functions import ATTENTION_FUNCTIONS
from kw_mm.warehouse.warehouses import list_cells

AS_DY_CONV = dict(
    partition=False,
    sharing_range='layer',
    attention_function='softmax',
    zero_cell=False,
    attention_norm='none',
    reduction=1 / 4,
)
SWEEP = {
    **{name: dict(attention_function=name) for name in ATTENTION_FUNCTIONS},
    'all_to_all': dict(start='all_to_all'),
    'several_cells': dict(start='several_cells', budget=2),
    'shared_cell': dict(start='shared_cell', budget=1 / 3, zero_cell=False),
    'no start': dict(start='none'),
    'whole kernels': dict(partition=False),
    'layer': dict(sharing_range='layer'),
    'two stages': dict(sharing_range='two_stages'),
    'basis': dict(nonlocal_basis_ratio=1 / 4, zero_cell=False, attention_function='softmax'),
    'DY-Conv': dict(AS_DY_CONV, budget=4),
}


def network(**options):
    net = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 32, 3, stride=2)
    )
    return apply_kernel_warehouse(
        net, {'stage1': ['0'], 'stage2': ['2']}, **options, init='published'
    )


class NaiveDYConv2d(nn.Module):
    """DY-Conv as its paper states it: a softmax over K whole kernels, image by image."""

    def __init__(self, conv, num_kernels):
        super().__init__()
        self.stride, self.padding, self.bias = conv.stride, conv.padding, conv.bias
        hidden = conv.in_channels // 4
        self.squeeze, self.excite = (
            nn.Linear(conv.in_channels, hidden),
            nn.Linear(hidden, num_kernels),
        )
        self.kernels = nn.Parameter(torch.empty(num_kernels, *conv.weight.shape))

    def forward(self, x):
        outputs = []
        for image in x:
            pi = torch.softmax(self.excite(F.relu(self.squeeze(image.mean(dim=(1, 2))))), dim=0)
            kernel = sum(p * w for p, w in zip(pi, self.kernels))
            outputs.append(F.conv2d(image[None], kernel, self.bias, self.stride, self.padding))
        return torch.cat(outputs)


def test_without_partition_sharing_and_caf_it_is_dy_conv():
    plain = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 32, 3, stride=2)
    )
    dy_conv = nn.Sequential(NaiveDYConv2d(plain[0], 4), nn.ReLU(), NaiveDYConv2d(plain[2], 4))
    kw = apply_kernel_warehouse(
        copy.deepcopy(plain), {'stage1': ['0', '2']}, budget=4, **AS_DY_CONV, init='published'
    )
    pairs = []
    for mine, naive in ((kw[0], dy_conv[0]), (kw[2], dy_conv[2])):
        pairs += [
            (mine.attention.fc1.weight, naive.squeeze.weight),
            (mine.attention.fc1.bias, naive.squeeze.bias),
            (mine.attention.fc2.weight, naive.excite.weight),
            (mine.attention.fc2.bias, naive.excite.bias),
            (mine.cells, naive.kernels),
        ]

    def like(naive, value):
        return value if value.shape == naive.shape else list_cells(value, naive.shape[-2:])

    with torch.no_grad():
        for mine, naive in pairs:
            naive.copy_(like(naive, mine))
        kw[2].bias.copy_(dy_conv[2].bias)
    assert sum(p.numel() for p in kw.parameters()) == sum(p.numel() for p in dy_conv.parameters())
    x = torch.randn(3, 64, 7, 7)
    found, expected = kw(x), dy_conv(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward(), expected.square().sum().backward()
    for mine, naive in pairs:
        torch.testing.assert_close(
            like(naive, mine.grad), naive.grad, rtol=1e-3, atol=1e-4 * float(naive.grad.abs().max())
        )


@pytest.mark.parametrize('tau', [0, 0.5])
@pytest.mark.parametrize('name', SWEEP)
def test_gradients_and_independent_images(name, tau):
    net, x = network(**SWEEP[name]), torch.randn(3, 64, 6, 6)
    net.warehouses.set_temperature(tau)
    net(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    together = net(x)
    torch.testing.assert_close(
        together, torch.cat([net(image[None]) for image in x]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('name', SWEEP)
def test_a_checkpoint_restores_the_network(name):
    net, other, x = (
        network(**SWEEP[name]).eval(),
        network(**SWEEP[name]).eval(),
        torch.randn(2, 64, 6, 6),
    )
    net.warehouses.set_temperature(0.3)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
