"""Every method on every backbone: what docs/methods.md says of each."""

import copy
import io

import pytest
import torch
from method_networks import CHECKED, CONVS, GATES, NETWORKS, WIDTH, inputs, outputs
from mmengine.registry import MODELS
from mmengine.utils import digit_version
from mmpretrain.models.utils import LayerNorm2d
from torch import fx
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.feature_extraction import create_feature_extractor

from kw_mm.models import DynamicResNet

SLOW_BUDGETS = ('KW 2x', 'KW 4x', 'KW below 1')
TRACED = [
    name for name in NETWORKS if name.endswith(('ResNet', '1d', '3d', 'Linear', 'KW 1x, ConvNeXt'))
]
COMPILED = ['KWConv1d', 'ODConv2d']  # the others are `slow`
SIDES = dict(KWLinear=[1])  # axes of any size, where they are not the last ones
FIRST_STAGE = {
    'ResNet': ('conv1.', 'bn1.', 'layer1.'),
    'MobileNetV2': ('conv1.', 'layer1.'),
    'ConvNeXt': ('downsample_layers.0.', 'stages.0.'),
    'ViT': ('cls_token', 'pos_embed', 'patch_embed.', 'layers.0.'),
}


def rows(column, quick=None):
    """Rows of a column; what is not quick is `slow`: by default other budgets on large networks."""
    if quick is None:
        large = [name for name in NETWORKS if ', ' in name and not name.endswith('ResNet')]
        others = [name for name in large if name.startswith(SLOW_BUDGETS)]
        quick = [name for name in NETWORKS if name not in others]
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow)
        for name in CHECKED[column]
    ]


def build(name):
    """A network in eval mode whose norms have seen data, so that signals neither grow nor die."""
    network = NETWORKS[name]
    module = network.build().train()
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    with torch.no_grad():
        module(inputs(network, 4))
    return module.eval()


def gradients(module, x, parameters):
    loss = sum(out.square().mean() for out in outputs(module, x))
    return torch.autograd.grad(loss, parameters)


def check_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        limit = tolerance * float(other.abs().max()) + 1e-12
        torch.testing.assert_close(one, other, rtol=0, atol=limit)


@pytest.mark.parametrize('name', rows('gradients'))
def test_gradients(name):
    network = NETWORKS[name]
    module = network.build().train()
    parameters = list(module.parameters())
    assert all(grad.isfinite().all() for grad in gradients(module, inputs(network), parameters))


@pytest.mark.parametrize('name', rows('AMP'))
def test_mixed_precision(name):
    network = NETWORKS[name]
    module = network.build().train()
    with torch.autocast('cpu', torch.bfloat16):
        found = outputs(module, inputs(network))
    sum(out.float().square().mean() for out in found).backward()
    for parameter in module.parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize('name', rows('finite as built'))
def test_finite_in_eval_mode_as_built(name):
    network = NETWORKS[name]
    module = network.build().eval()
    assert all(out.isfinite().all() for out in outputs(module, inputs(network)))


@torch.no_grad()
@pytest.mark.parametrize(
    'cfg',
    [
        dict(type='KWResNet', budget=1),
        dict(type='KWResNet', budget=1 / 2),
        *(dict(type='DynamicResNet', conv=conv) for conv in CONVS.values()),
        *(dict(type='StaticResNet', conv_cfg=conv) for conv in GATES.values()),
        *(dict(type='AttentionResNet', attention=kind) for kind in ('se', 'cbam', 'eca')),
    ],
    ids=str,
)
def test_deep_networks_are_finite_in_eval_mode_as_built(cfg):
    module = MODELS.build(dict(cfg, depth=50, **WIDTH)).eval()
    assert module(torch.randn(2, 3, 64, 64))[0].isfinite().all()


@torch.no_grad()
def test_the_published_start_of_dcd_is_not():
    module = DynamicResNet(18, dict(type='DCDConv2d', init='published')).eval()
    assert not module(torch.randn(2, 3, 64, 64))[0].isfinite().all()


class Leaves(fx.Tracer):
    """mmpretrain's LayerNorm2d asserts something about sizes."""

    def is_leaf_module(self, module, name):
        return isinstance(module, LayerNorm2d) or super().is_leaf_module(module, name)


def traced(module, tracer=Leaves):
    graph_module = fx.GraphModule(module, tracer().trace(module))
    graph_module.graph.lint()
    return graph_module


@pytest.mark.parametrize('name', rows('torch.fx', TRACED))
def test_torch_fx(name):
    module, x = build(name), inputs(NETWORKS[name])
    graph_module = traced(module, fx.Tracer if 'ConvNeXt' not in name else Leaves)
    saved = io.BytesIO()
    torch.save(graph_module, saved)
    saved.seek(0)
    others = [traced(graph_module), copy.deepcopy(graph_module)]
    others.append(torch.load(saved, weights_only=False))
    for one in (graph_module, *others):
        assert sorted(one.state_dict()) == sorted(module.state_dict())
        for found, expected in zip(outputs(one, x), outputs(module, x), strict=True):
            assert torch.equal(found, expected)
    parameters = list(module.parameters())
    check_close(gradients(graph_module, x, parameters), gradients(module, x, parameters), 1e-5)
    module.train()
    graph_module.train()
    torch.manual_seed(1)
    expected = outputs(module, x)
    torch.manual_seed(1)
    check_close(outputs(graph_module, x), expected, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize('name', [name for name in TRACED if name.endswith(', ResNet')])
def test_torchvisions_feature_extractor(name):
    """Of a layer inside, and of what the backbone returns."""
    module, x, seen = build(name), inputs(NETWORKS[name]), []
    wanted = {'layer2.1.conv1': 'inner', 'contiguous_where': 'outputs'}
    extractor = create_feature_extractor(module, wanted).eval()
    module.layer2[1].conv1.register_forward_hook(lambda layer, inputs, out: seen.append(out))
    found, expected = extractor(x), module(x)
    assert torch.equal(found['inner'], seen[-1])
    assert all(torch.equal(one, other) for one, other in zip(found['outputs'], expected))
    assert sorted(extractor.state_dict()) == sorted(module.state_dict())


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'),
    reason='older compilers break the graph at every layer',
)
@pytest.mark.parametrize('name', rows('compile', COMPILED))
def test_compile(name):
    """One graph, with the same values and gradients."""
    torch._dynamo.reset()
    module, x = build(name), inputs(NETWORKS[name])
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    check_close(outputs(compiled, x), outputs(module, x), 1e-4)
    parameters = list(module.parameters())
    check_close(gradients(compiled, x, parameters), gradients(module, x, parameters), 1e-3)


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_exporting'), reason='needs torch 2.7')
@pytest.mark.parametrize('name', rows('ONNX', []))
def test_onnx(name, tmp_path):
    """Any batch and, but for the vision transformer, any size."""
    onnxruntime = pytest.importorskip('onnxruntime')
    module, x = build(name).requires_grad_(False), inputs(NETWORKS[name])
    sides = [] if 'ViT' in name else SIDES.get(name, range(2, x.dim()))
    free = {axis: torch.export.Dim.DYNAMIC for axis in (0, *sides)}
    program = torch.export.export(module, (x,), dynamic_shapes=(free,), strict=False)
    path = str(tmp_path / 'x.onnx')
    torch.onnx.export(program, (x,), dynamo=True, verbose=False, opset_version=20).save(path)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for more in (0, 3):
        shape = [3, *x.shape[1:]]
        for axis in sides:
            shape[axis] += more
        images = torch.randn(shape)
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        check_close([torch.from_numpy(one) for one in found], outputs(module, images), 2e-3)


@torch.no_grad()
def plain_network(name):
    """In float64, with nothing at its default that a plain network learns."""
    plain = NETWORKS[name].plain().double()
    for key, value in [*plain.named_parameters(), *plain.named_buffers()]:
        if key.endswith('running_var') or 'gamma' in key:
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1 and value.is_floating_point():
            value.normal_(0.5, 0.2)
    return plain.eval()


@torch.no_grad()
@pytest.mark.parametrize('name', rows('plain start'))
def test_plain_start(name):
    network, plain = NETWORKS[name], plain_network(name)
    module = network.build().double().eval()
    module.load_state_dict(plain.state_dict())
    x = inputs(network, dtype=torch.double)
    check_close(outputs(module, x), plain(x), 1e-9)


@pytest.mark.parametrize('name', rows('freezing'))
def test_freezing(name):
    module = NETWORKS[name].build(frozen_stages=1).train()
    first = FIRST_STAGE[name.split(', ')[1]]
    for key, parameter in module.named_parameters():
        is_frozen = key.startswith(first)
        if name.startswith('FDConv') and 'attention' in key:  # published: they train
            is_frozen = False
        if not key.startswith('warehouses.'):  # see tests/warehouse/test_freezing.py
            assert parameter.requires_grad != is_frozen, key
    norms = {key: one for key, one in module.named_modules() if isinstance(one, _BatchNorm)}
    for key, norm in norms.items():
        assert norm.training != f'{key}.'.startswith(first), key
