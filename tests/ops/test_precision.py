"""autocast's dtype, also where a network is compiled."""

import pytest
import torch
from torch import nn

from kw_mm.ops import precision
from kw_mm.ops.precision import autocast_dtype
from kw_mm.warehouse import apply_kernel_warehouse


def test_autocast_dtype():
    assert autocast_dtype('cpu') is None
    with torch.autocast('cpu', torch.bfloat16):
        assert autocast_dtype('cpu') == torch.bfloat16
        assert precision._older_dtype_on('cpu') == torch.bfloat16
        assert autocast_dtype('cuda') is None


@pytest.mark.skipif(
    not hasattr(torch, 'get_autocast_dtype'),
    reason="compilers before torch 2.4 break the graph at autocast's dtype",
)
def test_one_graph_under_autocast():
    """Of a layer, with the same values."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = apply_kernel_warehouse(nn.Sequential(nn.Conv2d(8, 16, 3)), {'all': ['0']})
    net, x = net.eval(), torch.randn(2, 8, 9, 9)
    compiled = torch.compile(net, backend='aot_eager', fullgraph=True)
    with torch.autocast('cpu', torch.bfloat16):
        found, expected = compiled(x), net(x)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected.float(), atol=0.05, rtol=0.05)
