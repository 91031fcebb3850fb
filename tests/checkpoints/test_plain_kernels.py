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


def trained(network):
    """A network with statistics of its own, so that no tensor is left at its default."""
    network.train()
    network(torch.randn(4, 3, 64, 64))
    network.eval()
    return network


def named(state_dict, project):
    """mmpretrain's MobileNetV2 under another project's names."""
    return {rename(key, reverse(NAMES[project])): value for key, value in state_dict.items()}


@pytest.mark.parametrize('depth, budget', [(18, 1), (18, 2), (50, 4)])
def test_resnet(depth, budget):
    plain, backbone = (
        trained(ResNet(depth, zero_init_residual=False)),
        KWResNet(depth, budget, temperature=1),
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
    plain, backbone = trained(MobileNetV2()), KWMobileNetV2(budget=4, temperature=1)
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
    plain, mine, other = trained(ResNet(18)), KWResNet(18), KWResNet(18)
    other.load_state_dict(mine.state_dict())
    mine.load_state_dict(plain.state_dict())
    inflate(other, plain)
    for key, value in mine.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


@pytest.mark.parametrize(
    'cfg, plain',
    [
        (dict(type='KWResNet', depth=18, budget=1 / 2), ResNet(18)),
        (dict(type='KWMobileNetV2', budget=1 / 2), MobileNetV2()),
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


def test_a_reminder_where_the_temperature_stays_0(monkeypatch):
    lines = []
    monkeypatch.setattr('kw_mm.models.base.print_log', lambda line, **kwargs: lines.append(line))
    backbone, plain, x = KWResNet(18), ResNet(18).state_dict(), torch.randn(2, 3, 32, 32)
    backbone.load_state_dict(plain)
    backbone.set_temperature(0.9)  # as the hook does
    backbone(x)
    assert not lines
    backbone.load_state_dict(plain)
    backbone.set_temperature(0)
    backbone(x), backbone(x)
    assert len(lines) == 1 and 'AttentionTemperatureHook' in lines[0]


def test_no_reminder_after_a_refused_load_or_other_weights(monkeypatch):
    lines = []
    monkeypatch.setattr('kw_mm.models.base.print_log', lambda line, **kwargs: lines.append(line))
    backbone, x = KWResNet(18), torch.randn(2, 3, 32, 32)
    with pytest.raises(CheckpointError):
        backbone.load_state_dict({**ResNet(18).state_dict(), 'other': torch.zeros(1)})
    backbone(x)
    assert not lines
    backbone.load_state_dict(ResNet(18).state_dict())
    backbone.load_state_dict(KWResNet(18).state_dict())
    backbone(x)
    assert not lines
