"""The published FDConv ResNet-50, parameter for parameter and feature for feature."""

import pytest
import torch
from golden import images
from golden_fdconv import error, meta, state_dict, values
from torch import nn

from kw_mm.compared import FDConv2d
from kw_mm.models import DynamicResNet

META, VALUES = meta('fdconv_resnet50'), values('fdconv_resnet50')
CONV = dict(type='FDConv2d', kernel_num=64)


@pytest.fixture(scope='module')
def backbone():
    made = DynamicResNet(50, CONV, out_indices=range(4), frozen_stages=1, norm_eval=True)
    made.load_state_dict(state_dict(META['state_dict']))  # strict
    return made


def test_parameters_and_keys(backbone):
    assert len(META['state_dict']) == 1262
    assert sum(p.numel() for p in backbone.parameters()) == META['parameters'] == 27_155_152
    layers = {
        name: (module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0])
        for name, module in backbone.named_modules()
        if isinstance(module, FDConv2d)
    }
    assert layers == {
        layer['layer']: tuple(
            layer[key] for key in ('in_channels', 'out_channels', 'kernel_size', 'stride')
        )
        for layer in META['layers']
    }


def test_what_is_frozen(backbone):
    backbone.train()
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == set(META['frozen'])
    trained = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert trained == META['trainable_parameters']
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('mode', ['eval', 'batch'])
def test_features(backbone, mode):
    """``batch``: norms use batch statistics, but for those of the attentions."""
    backbone.eval().double()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(mode == 'batch')
    with torch.no_grad():
        outputs = backbone(images().double())
    errors = [
        error(out, VALUES[f'{mode}/f64/stage{i}'], META['runs'][mode][f'stage{i}']['largest'])
        for i, out in enumerate(outputs, start=1)
    ]
    assert all(value < 1e-9 for value in errors), errors
