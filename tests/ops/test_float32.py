"""How float32 is multiplied on a GPU that is not there."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from kw_mm.ops import Geometry
from kw_mm.ops.backends import CUDA, cuda
from kw_mm.ops.float32 import convolution_precision, is_convolved_faster, product_precision

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
    assert is_convolved_faster(torch.float32) and not is_convolved_faster(torch.bfloat16)


@pytest.mark.parametrize('products', ['ieee', 'tf32'])
@pytest.mark.parametrize('convolutions', ['ieee', 'tf32'])
def test_as_it_is_set(convolutions, products, set_precision):
    set_precision(convolutions, products)
    assert (convolution_precision(), product_precision()) == (convolutions, products)


@pytest.mark.skipif(not hasattr(cudnn, 'conv'), reason='this torch has the older names only')
@pytest.mark.parametrize('products', ['ieee', 'tf32'])
@pytest.mark.parametrize('convolutions', ['ieee', 'tf32'])
def test_by_the_newer_names(convolutions, products, monkeypatch):
    monkeypatch.setattr(cudnn.conv, 'fp32_precision', convolutions)
    monkeypatch.setattr(matmul, 'fp32_precision', products)
    assert (convolution_precision(), product_precision()) == (convolutions, products)


@pytest.mark.parametrize(
    ('convolutions', 'products', 'batch', 'dtype', 'way'),
    [
        ('tf32', 'ieee', 2, torch.float32, 'convolve_in_turn'),
        ('tf32', 'ieee', 1, torch.float32, 'single'),
        ('tf32', 'ieee', 32, torch.float32, 'pointwise'),
        ('tf32', 'ieee', 2, torch.bfloat16, 'pointwise'),
        ('tf32', 'ieee', 2, torch.float64, 'pointwise'),
        ('tf32', 'tf32', 2, torch.float32, 'pointwise'),
        ('ieee', 'ieee', 2, torch.float32, 'pointwise'),
    ],
)
def test_1x1_takes_the_matrix_unit(
    convolutions, products, batch, dtype, way, set_precision, monkeypatch
):
    set_precision(convolutions, products)
    taken = []
    for name in ('pointwise', 'single', 'convolve_in_turn'):
        monkeypatch.setattr(cuda, name, lambda *args, name=name: taken.append(name))
    with FakeTensorMode():
        x = torch.empty(batch, 8, 6, 6, device='cuda', dtype=dtype)
        kernels = torch.empty(batch, 16, 8, 1, 1, device='cuda', dtype=dtype)
        CUDA.conv2d(x, kernels, None, Geometry.of(1))
    assert taken == [way]
