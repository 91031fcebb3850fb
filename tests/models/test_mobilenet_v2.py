import pytest
import torch
from inflate import inflate
from mmpretrain.models.backbones import MobileNetV2
from torch import nn

from kw_mm.models import KWMobileNetV2, StaticMobileNetV2


@pytest.mark.parametrize('budget', [1, 4])
def test_at_temperature_1_it_is_the_plain_network(budget):
    """In float64: the last stage has statistics of 8 values, and float32 itself is 1.5e-4 off."""
    plain, backbone = (
        MobileNetV2(out_indices=range(8)),
        KWMobileNetV2(budget=budget, out_indices=range(8)),
    )
    inflate(backbone, plain)
    backbone.set_temperature(1)
    backbone.double().train(), plain.double().train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    for found, expected in zip(backbone(x), plain(x)):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-9 * float(expected.detach().abs().max())
        )


def test_warehouses_of_the_published_budgets():
    assert len(KWMobileNetV2(budget=1).warehouses) == 13
    four = KWMobileNetV2(budget=4)
    assert len(four.warehouses) == 19
    mixtures = {name: warehouse.num_cells // 4 for name, warehouse in four.warehouses.items()}
    assert [mixtures[f'stage{i}_expand'] for i in range(1, 7)] == [1, 2, 3, 4, 3, 3]
    assert [mixtures[f'stage{i}_project'] for i in range(1, 7)] == [11, 7, 4, 9, 11, 20]


def test_static_layers_of_budget_one_half():
    plain = [
        name
        for name, module in KWMobileNetV2(budget=1 / 2).named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert len(plain) == 27 and not any(
        name.startswith(('conv1', 'layer7', 'conv2')) for name in plain
    )


@pytest.mark.parametrize('make', [KWMobileNetV2, StaticMobileNetV2])
def test_frozen_from_construction_on_and_frozen_statistics(make):
    backbone = make(frozen_stages=2)
    frozen = {key.split('.')[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1', 'layer1', 'layer2'}
    backbone.train()
    before = backbone.conv1.bn.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert torch.equal(backbone.conv1.bn.running_mean, before)


def test_exclusive_freezing():
    backbone = KWMobileNetV2(frozen_stages=2, freeze_warehouses='exclusive')
    frozen = {
        name for name, warehouse in backbone.warehouses.items() if not warehouse.cells.requires_grad
    }
    assert frozen == {'stem', 'stage1_depthwise', 'stage1_pointwise'}


def test_recomputed_stages_give_the_same_gradients():
    plain, recomputed = KWMobileNetV2(norm_eval=False), KWMobileNetV2(norm_eval=False, with_cp=True)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, recomputed):
        model.train()
        model(x)[-1].sum().backward()
    for (key, expected), found in zip(plain.named_parameters(), recomputed.parameters()):
        scale = float(expected.grad.abs().max())
        torch.testing.assert_close(
            found.grad, expected.grad, rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=key
        )


def test_width_one_half():
    assert KWMobileNetV2(0.5)(torch.randn(2, 3, 64, 64))[0].shape == (2, 1280, 2, 2)


def test_two_stages_share_each_kind_of_layer():
    backbone = KWMobileNetV2(budget=4, sharing_range='two_stages', max_attention=50)
    assert set(backbone.warehouses) == {
        'stem',
        *(
            f'stages{first}and{first + 1}_{kind}'
            for first in (1, 3, 5)
            for kind in ('depthwise', 'project', 'expand')
        ),
    }
