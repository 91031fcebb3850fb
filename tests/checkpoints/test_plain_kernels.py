"""Plain static networks in KW backbones, under the names of several projects."""

import pytest
import torch
from inflate import inflate
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2, ResNet

from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.errors import CheckpointError
from kw_mm.models import KWMobileNetV2, KWResNet, StaticMobileNetV2
from kw_mm.models.mobilenet_v2 import NAMES
from kw_mm.warehouse import kw_layers


def trained(network):
    """A network with statistics of its own, so that no tensor is left at its default."""
    network.train()
    network(torch.randn(4, 3, 64, 64))
    network.eval()
    return network


def named(state_dict, project):
    """mmpretrain's MobileNetV2 under another project's names."""
    return {rename(key, reverse(NAMES[project])): value for key, value in state_dict.items()}


@pytest.mark.parametrize(
    'depth, budget, start, temperature',
    [(18, 1, 'published', 1), (18, 2, 'published', 1), (18, 2, 'plain', 0), (50, 4, 'plain', 0)],
)
def test_resnet(depth, budget, start, temperature):
    plain, backbone = (
        trained(ResNet(depth, zero_init_residual=False)),
        KWResNet(depth, budget, temperature=temperature, attention_start=start),
    )
    before = backbone.warehouses['stage1'].listed.detach().clone()
    backbone.load_state_dict(
        {**plain.state_dict(), 'fc.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}
    )
    backbone.eval()
    x = torch.randn(2, 3, 64, 64)
    expected = plain(x)[0]
    torch.testing.assert_close(
        backbone(x)[0], expected, rtol=0, atol=1e-4 * float(expected.detach().abs().max())
    )
    after = backbone.warehouses['stage1'].listed
    unplaced = [i for i in range(len(after)) if i % budget]
    assert torch.equal(after[unplaced], before[unplaced])  # other cells keep their usual start


@pytest.mark.parametrize('project', NAMES)
@pytest.mark.parametrize('wrap', ['', 'backbone.'])
def test_mobilenet(project, wrap):
    plain, backbone = trained(MobileNetV2()), KWMobileNetV2(budget=4)
    state_dict = named(plain.state_dict(), project)
    backbone.load_state_dict({wrap + key: value for key, value in state_dict.items()})
    backbone.eval()
    x = torch.randn(2, 3, 64, 64)
    expected = plain(x)[0]
    torch.testing.assert_close(
        backbone(x)[0], expected, rtol=0, atol=1e-4 * float(expected.detach().abs().max())
    )
    static = StaticMobileNetV2()
    static.load_state_dict(state_dict)
    assert torch.equal(static.eval()(x)[0], expected)


def test_names_of_torchvision_and_timm():
    torchvision = set(named(MobileNetV2().state_dict(), 'torchvision'))
    assert {
        'features.0.0.weight',
        'features.1.conv.0.1.bias',
        'features.1.conv.1.weight',
        'features.1.conv.2.weight',
        'features.17.conv.2.weight',
        'features.18.1.running_var',
    } <= torchvision
    timm = set(named(MobileNetV2().state_dict(), 'timm'))
    assert {
        'conv_stem.weight',
        'blocks.0.0.conv_dw.weight',
        'blocks.0.0.conv_pw.weight',
        'blocks.0.0.bn2.bias',
        'blocks.6.0.conv_pwl.weight',
        'blocks.6.0.bn3.weight',
        'conv_head.weight',
        'bn2.bias',
    } <= timm


def test_files_without_batch_counters_load():
    plain = {
        key: value for key, value in ResNet(18).state_dict().items() if 'num_batches' not in key
    }
    KWResNet(18).load_state_dict(plain)


def test_it_equals_placing_by_hand():
    plain, mine, other = (
        trained(ResNet(18)),
        KWResNet(18, attention_start='published'),
        KWResNet(18),
    )
    other.load_state_dict(mine.state_dict())
    mine.load_state_dict(plain.state_dict())
    inflate(other, plain)
    for key, value in mine.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(
    'cfg, plain',
    [
        (dict(type='KWResNet', depth=18, budget=1 / 2, attention_start='published'), ResNet(18)),
        (dict(type='KWMobileNetV2', budget=1 / 2, attention_start='published'), MobileNetV2()),
        (dict(type='KWResNet', depth=18, start='none'), ResNet(18)),
    ],
)
def test_starts_without_a_cell_for_each_mixture_are_refused_with_the_reason(cfg, plain):
    with pytest.raises(CheckpointError, match='no start cell of their own .budget < 1'):
        MODELS.build(cfg).load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    'options, reason',
    [
        (dict(start='all_to_all'), 'start from the same cell'),
        (dict(start='several_cells', budget=2), 'start from several cells each'),
    ],
)
def test_other_starts_are_refused_with_the_reason(options, reason):
    backbone = KWResNet(18, **options)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=f"cannot start this KWResNet.*'layer1.0.conv1'.*{reason}.*one_to_one"
    ):
        backbone.load_state_dict(ResNet(18).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    'make, plain, looks',
    [
        (lambda: KWResNet(18), lambda: ResNet(34), 'ResNet-34 in the plain static layout'),
        (lambda: KWResNet(50), lambda: ResNet(101), 'ResNet-101 in the plain static layout'),
        (lambda: KWResNet(18), lambda: ResNet(50), 'ResNet-50 in the plain static layout'),
        (lambda: KWResNet(18), lambda: MobileNetV2(), 'MobileNetV2 1 in the plain static layout'),
        (
            lambda: KWMobileNetV2(),
            lambda: MobileNetV2(0.5),
            'MobileNetV2 0.5 in the plain static layout',
        ),
        (lambda: StaticMobileNetV2(), lambda: MobileNetV2(0.5), 'MobileNetV2 0.5'),
        (lambda: KWResNet(18), lambda: torch.nn.Linear(2, 2), 'an unknown network'),
    ],
)
def test_another_network_is_refused(make, plain, looks):
    with pytest.raises(CheckpointError, match=f'look like {looks}'):
        make().load_state_dict(plain().state_dict(), strict=False)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="attention_start.*'plain'.*got attention_start='random'"):
        KWResNet(18, attention_start='random')


@pytest.fixture
def lines(monkeypatch):
    """Of the log."""
    lines = []
    monkeypatch.setattr(
        'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
    )
    return lines


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='KWResNet'), 'it is the plain network, at every temperature'),
        (
            dict(type='KWResNet', attention_start='published'),
            'at temperature 1 it is the plain network, with the published start of attention',
        ),
        (dict(type='KWResNet', budget=1 / 2), 'relative error of each warehouse: stage1 '),
        (
            dict(type='DynamicResNet', conv=dict(type='ODConv2d')),
            'it is the plain network, at every temperature',
        ),
        (dict(type='StaticResNet'), 'tensors used'),
    ],
)
def test_one_line_says_what_the_network_is(cfg, words, lines):
    MODELS.build(dict(cfg, depth=18)).load_state_dict(ResNet(18).state_dict())
    assert len(lines) == 1 and words in lines[0]
    assert ('network' in lines[0]) == ('Static' not in cfg['type'] and 'error' not in words)


def test_weights_may_be_loaded_again_and_again():
    """The start is that of the network, whatever was loaded before."""
    backbone, plain, other = KWResNet(18), ResNet(18).state_dict(), ResNet(18).state_dict()
    backbone.load_state_dict(other)
    backbone.load_state_dict(plain)
    for name, layer in kw_layers(backbone).items():
        kernel = plain[f'{name}.weight']
        torch.testing.assert_close(layer.plain_kernel, kernel, rtol=1e-6, atol=1e-8)
    backbone.attention_start = 'published'
    backbone.load_state_dict(plain)
    backbone.set_temperature(1)
    for name, layer in kw_layers(backbone).items():
        assert torch.equal(layer.plain_kernel, plain[f'{name}.weight'])
