"""Plans made from one forward pass."""

import json
import re

import pytest
import torch
import torchvision
from run_tools import ROOT
from torch import nn

from kw_mm.models import KWResNet
from kw_mm.warehouse import apply_kernel_warehouse, auto_plan, kw_layers

SMALL = torch.zeros(1, 3, 64, 64)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def build(name):
    return getattr(torchvision.models, name)(weights=None)


@pytest.mark.parametrize(
    'name, published, covered',
    [('resnet18', dict(depth=18), 0.95), ('resnet50', dict(depth=50), 0.9)],
)
def test_resnets_are_as_large_as_the_published_ones(name, published, covered):
    net = build(name)
    found = auto_plan(net, SMALL)
    assert list(found.plan) == ['stage1', 'stage2', 'stage3', 'stage4']
    kernels = sum(row[5] for row in found.rows)
    assert kernels > covered * parameters(net)
    assert found.left['conv1'] == 'stem' and found.left['fc'] == 'sees pooled features'
    apply_kernel_warehouse(net, found.plan)
    theirs = parameters(KWResNet(**published)) + parameters(net.fc)
    assert parameters(net) == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize(
    'name, growth, covered',
    [('mobilenet_v2', 0.25, 0.95), ('convnext_tiny', 0.25, 0.97), ('vit_b_16', 0.1, 0.65)],
)
def test_attention_stays_small_where_channels_have_little_in_common(name, growth, covered):
    net = build(name)
    found = auto_plan(net, torch.zeros(1, 3, 224, 224) if 'vit' in name else SMALL)
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    kernels, cells, attention = (sum(row[i] for row in found.rows) for i in (5, 6, 7))
    assert kernels > covered * (parameters(net) - parameters(last))
    assert cells == kernels and attention < growth * parameters(net)


def test_it_says_what_will_be(capsys):
    """Figures of the table are those of the network, and every layer is accounted for."""
    net = build('mobilenet_v2')
    before, names = parameters(net), {n for n, m in net.named_modules() if hasattr(m, 'weight')}
    layers = {n for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))} & names
    found = auto_plan(net, SMALL, budget=2)
    apply_kernel_warehouse(net, 'auto', inputs=SMALL, budget=2)
    assert capsys.readouterr().out == f'{found}\n'
    for name, _, cell, m, n, *_ in found.rows:
        warehouse = net.warehouses[name]
        assert 'x'.join(map(str, warehouse.cell_shape)) == cell and warehouse.num_cells == n
        drawn = [layer for layer in kw_layers(net).values() if layer.warehouse_name == name]
        assert sum(layer.partition.num_mixtures for layer in drawn) == m
    assert set(kw_layers(net)) | set(found.left) == layers
    after = before + sum(row[6] + row[7] - row[5] for row in found.rows)
    assert parameters(net) == after
    assert f'{before / 1e6:.2f} -> {after / 1e6:.2f} M parameters' in str(found)


@torch.no_grad()
@pytest.mark.parametrize('budget', [1, 2, 1 / 2, 0.3])
def test_every_budget_fits(budget):
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.Conv2d(64, 96, 3), nn.Conv2d(96, 96, 3, 2, 1, groups=96),
        nn.Conv2d(96, 192, 1), nn.Conv2d(192, 96, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(96, 10),
    ).eval()  # fmt: skip
    expected = net(SMALL)
    apply_kernel_warehouse(net, 'auto', inputs=SMALL, budget=budget)
    assert net(SMALL).shape == expected.shape
    if budget >= 1:  # the network keeps its weights
        torch.testing.assert_close(net(SMALL), expected, rtol=1e-4, atol=1e-5)


def test_plans_can_be_saved_edited_and_passed_back():
    net = build('mobilenet_v2')
    plan = json.loads(json.dumps(auto_plan(net, SMALL, budget=1 / 2).plan))
    del plan['stage1_depthwise']
    apply_kernel_warehouse(net, plan, budget=1 / 2)
    assert list(net.warehouses) == list(plan)


def test_the_network_is_left_as_it_was():
    net = build('resnet18')
    net.layer1.eval()
    modes = [module.training for module in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    auto_plan(net, SMALL)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


PUBLIC = {
    'ResNet-18': 'resnet18',
    'ResNet-50': 'resnet50',
    'ResNeXt-50 32x4d': 'resnext50_32x4d',
    'MobileNetV2': 'mobilenet_v2',
    'MobileNetV3-Large': 'mobilenet_v3_large',
    'EfficientNet-B0': 'efficientnet_b0',
    'RegNetY-400MF': 'regnet_y_400mf',
    'DenseNet-121': 'densenet121',
    'ConvNeXt-T': 'convnext_tiny',
    'Swin-T': 'swin_t',
    'ViT-B/16': 'vit_b_16',
}


def test_the_table_of_public_networks_is_what_plans_say():
    """Networks without memory of their own: a plan needs shapes only."""
    page = (ROOT / 'docs/sharing_plans.md').read_text()
    row = r'^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \| (\d+ %)[^|]*\| (\d+) \| (\d+) \|$'
    rows = {name: figures for name, *figures in re.findall(row, page, re.MULTILINE)}
    assert set(rows) == set(PUBLIC)
    for name, figures in rows.items():
        with torch.device('cpu' if 'RegNet' in name else 'meta'):  # RegNet's widths are computed
            net = build(PUBLIC[name])
        found = auto_plan(net.to('meta'), torch.zeros(1, 3, 224, 224, device='meta'))
        kernels, cells, attention = (sum(row[i] for row in found.rows) for i in (5, 6, 7))
        after = found.parameters - kernels + cells + attention
        assert figures == [
            f'{found.parameters / 1e6:.2f}',
            f'{after / 1e6:.2f}',
            f'{kernels / found.parameters:.0%}'.replace('%', ' %'),
            str(len(found.plan)),
            str(sum(row[1] for row in found.rows)),
        ], name


class Twice(nn.Module):
    """A head that is used at two scales."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)
        )
        self.head = nn.Conv2d(64, 64, 3)

    def forward(self, x, scale):
        x = self.body(x)
        return self.head(x), self.head(x[..., ::scale, ::scale])


def test_shared_heads_and_what_is_skipped_stay_plain():
    found = auto_plan(Twice(), (SMALL, 2))
    assert found.plan == {'stage1': ['body.1', 'body.2']}
    assert found.left['head'] == 'used several times'
    assert auto_plan(Twice(), (SMALL, 2), skip=['body.2']).left['body.2'] == 'to be skipped'


@pytest.mark.parametrize(
    'net, options, message',
    [
        (nn.Sequential(nn.Linear(8, 8)), {}, 'needs inputs=..., an example of what this Seq'),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {}, "finds no layers of this Sequential.*'0': 'stem'"),
        (nn.ReLU(), dict(inputs=SMALL), 'neither convolutions nor linear'),
    ],
)
def test_what_cannot_be_planned_is_refused(net, options, message):
    with pytest.raises(ValueError, match=message):
        auto_plan(net, **options)
    with pytest.raises(ValueError, match="plan must be .*'auto'.*got plan='best'"):
        apply_kernel_warehouse(nn.Sequential(nn.Conv2d(3, 8, 3)), 'best')
