"""Every method on a GPU that is not there: tensors that have a device and no contents.

A tensor that a layer makes or keeps on the CPU is an error here, as on a GPU. Backward passes of
such tensors need a driver; they are tested in tests/gpu.
"""

import pytest
import torch
from fake_gpu import needs_fake_gpu
from method_networks import NETWORKS, inputs, outputs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from kw_mm.ops import float32, use_backend
from kw_mm.ops.backends import why_no_triton

pytestmark = needs_fake_gpu
BACKENDS = ['torch', 'cuda'] if why_no_triton() else ['cuda', 'triton', 'triton-conv']


@pytest.fixture(autouse=True)
def _capable(monkeypatch):
    monkeypatch.setattr(float32, 'has_tf32', lambda device: True)


def put_on_gpu(net):
    """Replace parameters and buffers, each by one in all its places."""
    placed = {}
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, one in tensors.items():
                if one is not None and id(one) not in placed:
                    there = torch.empty_strided(
                        one.shape, one.stride(), dtype=one.dtype, device='cuda'
                    )
                    placed[id(one)] = (
                        nn.Parameter(there) if isinstance(one, nn.Parameter) else there
                    )
                tensors[name] = one if one is None else placed[id(one)]


# FDConv's groups are made from values, once.
@pytest.mark.parametrize('name', [name for name in NETWORKS if 'FDConv' not in name])
def test_everything_is_on_the_gpu(name):
    net, x = NETWORKS[name].build(), inputs(NETWORKS[name])
    outputs(net, x)  # numbers that are computed once, on the CPU
    with FakeTensorMode():
        put_on_gpu(net)
        for backend in BACKENDS:
            for training in (True, False):
                net.train(training)
                with use_backend(backend):
                    found = outputs(net, torch.empty(x.shape, device='cuda'))
                assert all(one.device.type == 'cuda' for one in found)


def test_what_stays_on_the_cpu_is_found():
    net = NETWORKS['KWConv2d'].build()
    with FakeTensorMode():
        put_on_gpu(net)
        net[0].attention.fc1.weight = nn.Parameter(torch.empty(net[0].attention.fc1.weight.shape))
        with pytest.raises(RuntimeError, match='device'), use_backend('cuda'):
            net(torch.empty(2, 8, 9, 7, device='cuda'))
