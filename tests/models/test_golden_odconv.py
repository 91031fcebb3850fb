"""The published ODConv models, parameter for parameter and feature for feature."""

import pytest
import torch
from golden import SOFTMAX_TEMPERATURES, Golden, images
from mmpretrain.models.heads import LinearClsHead
from torch import nn

from kw_mm.compared import ODConv2d
from kw_mm.models import DynamicMobileNetV2, DynamicResNet

CONV = dict(type='ODConv2d', num_kernels=4)
# feature: its index among the outputs
MODELS = {
    'odconv4x_resnet50': (
        lambda: DynamicResNet(50, CONV, out_indices=range(4)),
        2048,
        {f'stage{i + 1}': i for i in range(4)},
    ),
    'odconv4x_mobilenetv2_100': (
        lambda: DynamicMobileNetV2(1.0, CONV, out_indices=range(8)),
        1280,
        {'features1': 0, 'features3': 1, 'features6': 2, 'features13': 4, 'features18': 7},
    ),
}


@pytest.fixture(scope='module', params=MODELS)
def model(request):
    make, channels, features = MODELS[request.param]
    return Golden(request.param), make(), LinearClsHead(1000, channels), features


@pytest.fixture(scope='module')
def published(model):
    """A model's weights in the published layout."""
    return model[0].state_dict()


@pytest.fixture(scope='module')
def loaded(model, published):
    """A model with them, in the mode in which the golden values were computed."""
    _, backbone, head, _ = model
    backbone.load_state_dict(published)
    head.fc.load_state_dict(
        {
            key.split('.')[-1]: value
            for key, value in published.items()
            if key.startswith(('fc.', 'classifier.'))
        }
    )
    backbone.double().eval(), head.double().eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return model


def test_parameters(model):
    golden, backbone, head, _ = model
    assert (
        sum(p.numel() for module in (backbone, head) for p in module.parameters())
        == golden.meta['parameters']
    )


def test_published_layout_loads_and_every_key_is_used_or_named(model, published, monkeypatch):
    _, backbone, _, _ = model
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    backbone.load_state_dict(published)  # strict: a key too many or too few raises
    named = {key for key in published if any(key in line for line in lines)}
    assert named == {key for key in published if key.startswith(('fc.', 'classifier.'))}
    assert len(lines) == 1 and 'published ODConv layout' in lines[0]
    assert f'{len(published) - len(named)} tensors used' in lines[0]
    loaded = sorted(
        float(value.double().sum())
        for key, value in backbone.state_dict().items()
        if not key.endswith(('.temperature', '.num_batches_tracked'))
    )
    assert loaded == pytest.approx(
        sorted(
            float(value.double().sum())
            for key, value in published.items()
            if key not in named and not key.endswith('.num_batches_tracked')
        )
    )


@pytest.mark.parametrize('temperature', SOFTMAX_TEMPERATURES)
@pytest.mark.parametrize('fold', [None, True, False])
def test_features(loaded, temperature, fold, monkeypatch):
    """The attentions multiply the smaller of features and kernels (None), or always one of them."""
    if fold is not None:
        monkeypatch.setattr(ODConv2d, 'scales_kernels', lambda self, kernel, features: fold)
    golden, backbone, head, features = loaded
    backbone.set_temperature(float(temperature))
    with torch.no_grad():
        outputs = backbone(images().double())
        logits = head((outputs[-1].mean(dim=(2, 3)),))
    errors = {
        name: golden.error(temperature, name, outputs[index]) for name, index in features.items()
    }
    errors['logits'] = golden.error(temperature, 'logits', logits)
    assert all(error < 1e-8 for error in errors.values()), errors
