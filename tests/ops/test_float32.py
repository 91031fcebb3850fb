"""How float32 is multiplied on a GPU that is not there."""

import pytest
import torch
from fake_gpu import needs_fake_gpu
from torch._subclasses.fake_tensor import FakeTensorMode

from kw_mm.ops import Geometry, conv2d_per_image, float32, use_backend
from kw_mm.ops.backends import CUDA, cuda
from kw_mm.ops.float32 import HAS_NEWER_NAMES, convolution_precision, product_precision

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture
def set_precision(monkeypatch):
    """Function: set what convolutions and products may use."""

    def choose(convolutions, products):
        monkeypatch.setattr(cudnn, 'allow_tf32', convolutions == 'tf32')
        monkeypatch.setattr(matmul, 'allow_tf32', products == 'tf32')

    return choose


def test_as_torch_is_by_default():
    assert (convolution_precision(), product_precision()) == ('tf32', 'ieee')


@pytest.mark.parametrize('products', ['ieee', 'tf32'])
@pytest.mark.parametrize('convolutions', ['ieee', 'tf32'])
def test_as_it_is_set(convolutions, products, set_precision):
    set_precision(convolutions, products)
    assert (convolution_precision(), product_precision()) == (convolutions, products)


@pytest.mark.skipif(not HAS_NEWER_NAMES, reason='this torch has the older names only')
@pytest.mark.parametrize('products', ['ieee', 'tf32'])
@pytest.mark.parametrize('convolutions', ['ieee', 'tf32'])
def test_by_the_newer_names(convolutions, products, monkeypatch):
    monkeypatch.setattr(cudnn.conv, 'fp32_precision', convolutions)
    monkeypatch.setattr(matmul, 'fp32_precision', products)
    assert (convolution_precision(), product_precision()) == (convolutions, products)


@needs_fake_gpu
@pytest.mark.parametrize(
    ('convolutions', 'products', 'capable', 'batch', 'dtype', 'way'),
    [
        ('tf32', 'ieee', True, 2, torch.float32, 'convolve_in_turn'),
        ('tf32', 'ieee', True, 1, torch.float32, 'single'),
        ('tf32', 'ieee', True, 32, torch.float32, 'pointwise'),
        ('tf32', 'ieee', True, 2, torch.bfloat16, 'pointwise'),
        ('tf32', 'ieee', True, 2, torch.float64, 'pointwise'),
        ('tf32', 'tf32', True, 2, torch.float32, 'pointwise'),
        ('ieee', 'ieee', True, 2, torch.float32, 'pointwise'),
        ('tf32', 'ieee', False, 2, torch.float32, 'pointwise'),
    ],
)
def test_1x1_takes_the_matrix_unit(
    convolutions, products, capable, batch, dtype, way, set_precision, monkeypatch
):
    set_precision(convolutions, products)
    monkeypatch.setattr(float32, 'has_tf32', lambda device: capable)
    taken = []
    for name in ('pointwise', 'single', 'convolve_in_turn'):
        monkeypatch.setattr(cuda, name, lambda *args, name=name: taken.append(name))
    with FakeTensorMode():
        x = torch.empty(batch, 8, 6, 6, device='cuda', dtype=dtype)
        kernels = torch.empty(batch, 16, 8, 1, 1, device='cuda', dtype=dtype)
        CUDA.conv2d(x, kernels, None, Geometry.of(1))
    assert taken == [way]


@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('batch', [1, 3])
def test_both_ways_give_the_same(batch, stride, order, monkeypatch):
    x = torch.randn(batch, 8, 7, 6, dtype=torch.float64).contiguous(memory_format=order)
    leaves = [x, torch.randn(batch, 5, 8, 1, 1).double(), torch.randn(5).double()]
    leaves, found = [one.requires_grad_() for one in leaves], []
    for convolved in (False, True):
        monkeypatch.setattr(cuda, 'is_convolved', lambda x, convolved=convolved: convolved)
        with use_backend('cuda'):
            out = conv2d_per_image(*leaves, stride=stride)
        found.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    assert found[0][0].stride() == found[1][0].stride()
    assert all(torch.allclose(*pair, rtol=1e-12, atol=1e-12) for pair in zip(*found))
