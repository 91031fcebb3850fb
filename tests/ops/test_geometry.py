"""Geometry of a convolution, and the choice of a backend."""

from dataclasses import fields

import pytest
import torch
from torch import nn

from kw_mm.compared import ODConv2d
from kw_mm.ops import Geometry, backend_for, reference_path
from kw_mm.ops.backends import CPU, EXPORTED, REFERENCE, TORCH

CONVS = [
    dict(kernel_size=3),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=(5, 1), padding=(3, 0), stride=(1, 2), dilation=(2, 1)),
    dict(kernel_size=4, padding='same'),
    dict(kernel_size=3, padding='same', dilation=2),
    dict(kernel_size=3, padding='valid'),
]


@pytest.mark.parametrize('options', CONVS, ids=str)
def test_output_size_is_that_of_torch(options):
    geometry = Geometry.of(**options)
    conv = nn.Conv2d(1, 1, **options)
    for size in ((9, 11), (12, 8)):
        assert geometry.output_size(size) == conv(torch.zeros(1, 1, *size)).shape[2:]


def test_sides_of_same_are_those_of_torch():
    assert Geometry.of(4, padding='same').sides == (1, 2, 1, 2)
    assert Geometry.of(4, padding='same').pads is None
    assert Geometry.of(3, padding='same', dilation=2).pads == (2, 2)


def test_it_can_be_made_from_its_fields():
    """As torch.compile of torch 2.5 and 2.6 copies a frozen dataclass."""
    for options in CONVS:
        geometry = Geometry.of(**options)
        copy = Geometry(*[getattr(geometry, field.name) for field in fields(geometry)])
        assert copy == geometry and copy.sides == geometry.sides and copy.pads == geometry.pads


def test_what_is_pointwise():
    assert Geometry.of(1, stride=2).is_pointwise
    for options in (dict(padding=1), dict(groups=2)):
        assert not Geometry.of(1, **options).is_pointwise
    assert not Geometry.of((1, 3), padding=(0, 1)).is_pointwise


@pytest.mark.parametrize('options', [dict(padding='full'), dict(padding='same', stride=2)])
def test_bad_padding_is_refused(options):
    with pytest.raises(ValueError, match=f'padding={options["padding"]!r}'):
        Geometry.of(3, **options)


def test_a_layer_shows_its_geometry_and_does_not_let_it_be_changed_behind_it():
    layer = ODConv2d(8, 8, 3, stride=2, padding=1, groups=2)
    assert (layer.stride, layer.padding, layer.dilation, layer.groups) == (
        (2, 2),
        (1, 1),
        (1, 1),
        2,
    )
    with pytest.raises(AttributeError):
        layer.stride = (1, 1)


def test_one_function_chooses_the_backend():
    x, chosen = torch.zeros(1, 3, 4, 4), []
    assert backend_for(x) is CPU
    assert backend_for(x.to('meta')) is TORCH
    with reference_path():
        assert backend_for(x) is REFERENCE
        with reference_path():
            pass
        assert backend_for(x) is REFERENCE
    torch.jit.trace(lambda x: (chosen.append(backend_for(x)), x + 1)[1], x, check_trace=False)
    assert chosen == [EXPORTED]
    assert backend_for(x) is CPU
