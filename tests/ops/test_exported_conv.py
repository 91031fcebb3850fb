"""What goes into files computes the same, for every batch and size."""

import pytest
import torch
from geometries import CONVS
from torch import nn

from kw_mm.compared import ODConv2d
from kw_mm.ops import conv2d_per_image, linear_per_image, reference_path
from kw_mm.ops.tracing import is_exported

GEOMETRIES = {
    **CONVS,
    'depthwise': dict(kernel_size=3, padding=1, groups=8),
    'one by one, plain': dict(kernel_size=1),
    'depthwise, stride': dict(kernel_size=5, padding=2, stride=2, groups=8),
    'depthwise, twice the channels': dict(kernel_size=3, groups=8, out_channels=16),
    'even, same': dict(kernel_size=(4, 2), padding='same', groups=2),
    'all different': dict(kernel_size=(5, 1), padding=(3, 0), stride=(1, 2), dilation=(2, 1)),
}
INPUTS = [(1, 9, 12), (2, 9, 12), (3, 20, 17)]


class PerImage(nn.Module):
    def __init__(self, geometry):
        super().__init__()
        conv = nn.Conv2d(8, **{'out_channels': 8, **geometry})
        self.shape, self.bias = conv.weight.shape, conv.bias
        self.arguments = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.fc = nn.Linear(8, conv.weight.numel())

    def forward(self, x):
        kernels = self.fc(x.mean(dim=(2, 3))).view(-1, *self.shape)
        return conv2d_per_image(x, kernels, self.bias, *self.arguments)


def check(model, written):
    for batch, height, width in INPUTS:
        x = torch.randn(batch, 8, height, width)
        with reference_path():
            expected = model(x)
        torch.testing.assert_close(
            written(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
        )


@torch.no_grad()
@pytest.mark.parametrize('name', GEOMETRIES)
def test_traced(name):
    model = PerImage(GEOMETRIES[name]).eval()
    traced = torch.jit.trace(model, torch.randn(2, 8, 9, 12), check_trace=False)
    assert not any('conv' in node.kind() for node in traced.inlined_graph.nodes())
    check(model, traced)


@torch.no_grad()
@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'),
    reason='torch.export says nothing of itself before 2.7',
)
@pytest.mark.parametrize('name', ['stride', 'groups', 'depthwise'])
def test_exported(name):
    model, free = PerImage(GEOMETRIES[name]).eval(), torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.randn(2, 8, 9, 12),), dynamic_shapes=({0: free, 2: free, 3: free},)
    )
    assert not any('conv' in str(node.target) for node in program.graph.nodes)
    check(model, program.module())


@torch.no_grad()
@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'),
    reason='torch.export says nothing of itself before 2.7',
)
@pytest.mark.parametrize('name', ['one by one, plain', 'groups', 'depthwise'])
def test_a_fixed_batch_is_convolved_in_groups(name):
    model, free = PerImage(GEOMETRIES[name]).eval(), torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.randn(3, 8, 9, 12),), dynamic_shapes=({2: free, 3: free},)
    )
    assert any('conv' in str(node.target) for node in program.graph.nodes)
    x = torch.randn(3, 8, 20, 17)
    with reference_path():
        expected = model(x)
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_odconv_chooses_by_size_only_where_nothing_is_written():
    model = ODConv2d(8, 16, 3, padding=1, stride=2).eval()
    check(model, torch.jit.trace(model, torch.randn(2, 8, 5, 5), check_trace=False))


@torch.no_grad()
def test_linear():
    class Model(nn.Module):
        def forward(self, x):
            return linear_per_image(x, x[:, :, 0] @ x[:, :, 0].transpose(1, 2))  # (B, 8, 8)

    tokens = torch.randn(2, 8, 3, 8)
    traced = torch.jit.trace(Model(), tokens, check_trace=False)
    other = torch.randn(3, 8, 5, 8)
    torch.testing.assert_close(traced(other), Model()(other))


def test_a_compiler_is_no_exporter():
    compiled = torch.compile(lambda x: x + is_exported(), backend='eager', fullgraph=True)
    assert compiled(torch.zeros(1)).item() == 0
    assert not is_exported()
