"""Networks with KW layers in graphs of torch.fx; see tests/models/test_methods.py for the rest."""

import copy

import pytest
import torch
import torchvision
from torch import fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from kw_mm.compared import ODConv2d
from kw_mm.warehouse import KWLayer, apply_kernel_warehouse

PLAN = {'body': ['layer1.0.conv1', 'layer1.0.conv2', 'layer2.0.conv1']}


def resnet18():
    net = torchvision.models.resnet18(weights=None)
    return apply_kernel_warehouse(net, PLAN, attention_norm='LN', init='published')


def mobilenet():
    net = torchvision.models.mobilenet_v2(weights=None, width_mult=0.25)
    layers = ['features.2.conv.0.0', 'features.3.conv.0.0', 'features.4.conv.0.0']
    return apply_kernel_warehouse(net, {'body': layers}, attention_norm='LN', init='published')


def transformer():
    net = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64)
    layers = [f'encoder.layers.encoder_layer_{i}.mlp.{j}' for i in (0, 1) for j in (0, 3)]
    return apply_kernel_warehouse(net, {'body': layers}, attention_norm='LN', init='published')


@pytest.mark.parametrize(
    'make, node, size',
    [
        (resnet18, 'layer2.0.conv1', 64),
        (mobilenet, 'features.4.conv.0', 64),
        (transformer, 'encoder.layers.encoder_layer_1.mlp', 32),
    ],
)
def test_torchvisions_feature_extractor(make, node, size):
    net = make()
    assert node in get_graph_node_names(net)[1]
    extractor = create_feature_extractor(net, {node: 'features'})
    if make is resnet18:
        assert extractor.warehouses is net.warehouses
    else:  # torchvision keeps blocks of torchvision.ops whole, and what they hold out of sight
        assert 'warehouses' not in dict(extractor.named_children())
        extractor.warehouses = net.warehouses
    x, seen = torch.randn(2, 3, size, size), []
    net.get_submodule(node).register_forward_hook(lambda module, inputs, out: seen.append(out))
    for training in (False, True):
        seen.clear()
        torch.manual_seed(1)
        found = extractor.train(training)(x)['features']
        torch.manual_seed(1)
        net.train(training)(x)
        torch.testing.assert_close(found, seen[-1], rtol=1e-5, atol=1e-6)
    found.sum().backward()
    assert extractor.get_parameter('warehouses.body.cells').grad.abs().sum() > 0


@torch.no_grad()
def test_a_copy_and_the_temperature_are_those_of_a_network():
    net = resnet18().eval()
    extractor = create_feature_extractor(net, ['layer2.0.conv1']).eval()
    copied, x = copy.deepcopy(extractor), torch.randn(1, 3, 64, 64)
    before = extractor(x)['layer2.0.conv1']
    copied.warehouses.set_temperature(1)
    copied.double()
    layer = copied.layer2.get_submodule('0.conv1')
    assert isinstance(layer, KWLayer) and layer.warehouse.cells.dtype == torch.double
    assert not torch.allclose(copied(x.double())['layer2.0.conv1'].float(), before)
    assert torch.equal(extractor(x)['layer2.0.conv1'], before)


@torch.no_grad()
def test_a_part_of_a_network():
    net = resnet18().eval()
    part, x = fx.symbolic_trace(net.layer1), torch.randn(2, 64, 9, 9)
    assert torch.equal(part(x), net.layer1(x))
    assert sorted(part.state_dict()) == sorted(net.layer1.state_dict())


@pytest.mark.parametrize('layer', [ODConv2d(8, 8, 1), resnet18().layer1[0].conv1])
def test_a_layer_by_itself_is_answered(layer):
    with pytest.raises(ValueError, match=r'got the layer itself; trace nn.Sequential\(layer\)'):
        fx.symbolic_trace(layer)
    fx.symbolic_trace(nn.Sequential(layer))


def test_a_second_argument_is_refused():
    layer, x = ODConv2d(8, 8, 1).eval(), torch.randn(1, 8, 4, 4)
    with pytest.raises(TypeError, match='ODConv2d takes one tensor, got 2 arguments'):
        layer(x, x)
