"""The published models, parameter for parameter and feature for feature."""

from contextlib import nullcontext

import pytest
import torch
from golden import TEMPERATURES, Golden, images
from mmpretrain.models.heads import LinearClsHead
from torch import nn

from kw_mm.models import KWConvNeXt, KWLinearClsHead, KWMobileNetV2, KWResNet
from kw_mm.ops import reference_path
from kw_mm.warehouse import kw_layers

# the module whose output a published feature is
RESNET_STAGES = {f'stage{i}': f'layer{i}' for i in range(1, 5)}
MOBILENET_FEATURES = {
    'features1': 'layer1',
    'features3': 'layer2',
    'features6': 'layer3',
    'features13': 'layer5',
    'features18': 'conv2',
}
CONVNEXT_STAGES = {f'stage{i + 1}': f'stages.{i}' for i in range(4)}

CLASSIFIERS = ('fc.', 'classifier.', 'head.')


def resnet(depth, budget):
    return KWResNet(depth, budget), LinearClsHead(1000, 512 if depth < 50 else 2048), RESNET_STAGES


def mobilenet(budget):
    head = LinearClsHead(1000, 1280) if budget >= 1 else KWLinearClsHead(1000, 1280)
    return KWMobileNetV2(1.0, budget), head, MOBILENET_FEATURES


def convnext(**options):
    return KWConvNeXt('tiny', **options), LinearClsHead(1000, 768), CONVNEXT_STAGES


MODELS = {
    'kw1x_resnet18': lambda: resnet(18, 1),
    'kw1x_resnet50': lambda: resnet(50, 1),
    'kw4x_resnet50': lambda: resnet(50, 4),
    'kw1d2x_resnet50': lambda: resnet(50, 1 / 2),
    'kw1x_mobilenetv2_100': lambda: mobilenet(1),
    'kw1d2x_mobilenetv2_100': lambda: mobilenet(1 / 2),
    'kw1x_convnext_tiny': convnext,
}


@pytest.fixture(scope='module', params=MODELS)
def model(request):
    backbone, head, features = MODELS[request.param]()
    return Golden(request.param), backbone, head, features


@pytest.fixture(scope='module')
def published(model):
    """A model's weights in the published layout."""
    return model[0].state_dict()


@pytest.fixture(scope='module')
def loaded(model, published):
    """A model with them, in the mode in which the golden values were computed."""
    _, backbone, head, _ = model
    backbone.load_state_dict(published)
    if isinstance(head, KWLinearClsHead):
        head.load_state_dict(published)
    else:
        head.fc.load_state_dict(
            {
                key.split('.')[-1]: value
                for key, value in published.items()
                if key.startswith(CLASSIFIERS)
            }
        )
    backbone.eval(), head.eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    return model


def modules_with_warehouses(backbone, head):
    return [module for module in (backbone, head) if hasattr(module, 'warehouses')]


def test_parameters(model):
    golden, backbone, head, _ = model
    assert (
        sum(p.numel() for module in (backbone, head) for p in module.parameters())
        == golden.meta['parameters']
    )


def test_warehouses(model):
    golden, backbone, head, _ = model
    found = []
    for module in modules_with_warehouses(backbone, head):
        layers = kw_layers(module).values()
        for name, warehouse in module.warehouses.items():
            mixtures = sum(
                layer.partition.num_mixtures for layer in layers if layer.warehouse_name == name
            )
            found.append((warehouse.num_cells, warehouse.cell_shape, mixtures))
    assert found == [(w['n'], tuple(w['cell'][:2]), w['m']) for w in golden.meta['warehouses']]


def test_start_cells(model):
    golden, backbone, head, _ = model
    names = {
        ours.rstrip('.'): published.rstrip('.')
        for published, ours in backbone.layout_names().published
    }
    found = {names.get(name, name): layer for name, layer in kw_layers(backbone).items()}
    found.update(('classifier.1.conv', layer) for layer in kw_layers(head).values())
    assert set(found) == {layer['layer'] for layer in golden.meta['layers']}
    for expected in golden.meta['layers']:
        assert found[expected['layer']].start_cells.tolist() == expected['assigned'], expected[
            'layer'
        ]


def test_published_layout_loads_and_every_key_is_used_or_named(model, published, monkeypatch):
    _, backbone, _, _ = model
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    backbone.load_state_dict(published)  # strict: a key too many or too few raises
    named = {key for key in published if any(key in line for line in lines)}
    classifier = {key for key in published if key.startswith(CLASSIFIERS)}
    last = f'warehouse_manager.weights.{len(backbone.warehouses)}'
    assert named == classifier | ({last} & set(published))
    assert len(lines) == 1 and f'{len(published) - len(named)} tensors used' in lines[0]


@torch.no_grad()
def outputs_of(backbone, head, features, dtype, temperature=0.0):
    """Features by name, and the logits."""
    for module in (backbone.to(dtype), head.to(dtype)):
        if hasattr(module, 'warehouses'):
            module.set_temperature(temperature)  # in float32, 0.37 would be another number
    found = {}

    def keep(name):
        return lambda module, inputs, output: found.update({name: output})

    hooks = [
        backbone.get_submodule(path).register_forward_hook(keep(name))
        for name, path in features.items()
    ]
    output = backbone(images().to(dtype))[-1]
    found['logits'] = head((output if output.dim() == 2 else output.mean(dim=(2, 3)),))
    for hook in hooks:
        hook.remove()
    backbone.float(), head.float()
    return found


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('path', [reference_path, nullcontext], ids=['reference', 'fast'])
def test_features(loaded, temperature, path):
    golden, backbone, head, features = loaded
    with path():
        found = outputs_of(backbone, head, features, torch.float64, float(temperature))
    errors = {name: golden.error(temperature, name, value) for name, value in found.items()}
    assert all(error < 1e-8 for error in errors.values()), errors


def test_float32_is_close_to_float64(loaded):
    """Batch statistics over 2 x 3 x 3 values magnify rounding in the last stage."""
    _, backbone, head, features = loaded
    exact, rounded = (
        outputs_of(backbone, head, features, dtype) for dtype in (torch.float64, torch.float32)
    )
    for name, value in rounded.items():
        bound = 3e-3 if name in ('stage4', 'features18', 'logits') else 3e-4
        assert (value - exact[name]).abs().max() < bound * exact[name].abs().max(), name


@pytest.mark.parametrize(
    'depth, budget, millions',
    [
        (18, 1 / 4, 4.03),
        (18, 1 / 2, 7.43),
        (18, 1, 11.93),
        (18, 2, 23.24),
        (18, 4, 45.86),
        (50, 1 / 2, 17.64),
        (50, 1, 28.05),
        (50, 4, 102.02),
    ],
)
@pytest.mark.usefixtures('unfilled')
def test_published_resnet_sizes(depth, budget, millions):
    backbone, head, _ = resnet(depth, budget)
    total = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert round(total / 1e6, 2) == millions


@pytest.mark.parametrize(
    'width, budget, millions',
    [
        (1.0, 1 / 2, 2.65),
        (1.0, 1, 5.17),
        (1.0, 4, 11.38),
        (0.5, 1 / 2, 1.47),
        (0.5, 1, 2.85),
        (0.5, 4, 4.65),
    ],
)
def test_published_mobilenet_sizes(width, budget, millions):
    head = LinearClsHead(1000, 1280) if budget >= 1 else KWLinearClsHead(1000, 1280)
    total = sum(
        p.numel() for module in (KWMobileNetV2(width, budget), head) for p in module.parameters()
    )
    assert round(total / 1e6, 2) == millions


@pytest.mark.parametrize(
    'options, millions',
    [(dict(), 39.37), (dict(split_stage3=True), 35.92), (dict(linear_pw_conv=False), 39.37)],
)
def test_published_convnext_sizes(options, millions):
    backbone, head, _ = convnext(**options)
    total = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert round(total / 1e6, 2) == millions
