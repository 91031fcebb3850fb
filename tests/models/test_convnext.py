import pytest
import torch
from inflate import inflate
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones import ConvNeXt
from recomputed import check_same_gradients
from torch import nn

from kw_mm.models import KWConvNeXt, StaticConvNeXt
from kw_mm.models.base import CheckpointedStage
from kw_mm.models.convnext import convnext_plan
from kw_mm.warehouse import KWConv2d, KWLinear, kw_layers

SMALL = dict(depths=[1, 1, 3, 1], channels=[16, 32, 48, 64])
DETECTION = dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False)


@pytest.mark.parametrize('linear', [True, False])
@pytest.mark.parametrize('budget', [1, 2])
def test_at_temperature_1_it_is_the_plain_network(linear, budget):
    options = dict(linear_pw_conv=linear, layer_scale_init_value=0.5, **DETECTION)
    plain = ConvNeXt(SMALL, **options)
    backbone = KWConvNeXt(SMALL, budget, temperature=1, **options)
    inflate(backbone, plain)
    x = torch.randn(2, 3, 64, 64)
    for found, expected in zip(backbone(x), plain(x)):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max())
        )
    pointwise = kw_layers(backbone)['stages.0.0.pointwise_conv1']
    assert type(pointwise) is (KWLinear if linear else KWConv2d)


def test_every_convolution_is_mixed_and_keeps_its_bias():
    backbone = KWConvNeXt(SMALL)
    layers = kw_layers(backbone)
    assert len(layers) == 4 + 3 * 6 and all(layer.bias is not None for layer in layers.values())
    static = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    assert all('.attention.fc' in name for name in static)


def mixtures(backbone):
    """{warehouse: (m_t, n, cell)}."""
    layers = kw_layers(backbone).values()
    return {
        name: (
            sum(layer.partition.num_mixtures for layer in layers if layer.warehouse_name == name),
            warehouse.num_cells,
            warehouse.cell_shape,
        )
        for name, warehouse in backbone.warehouses.items()
    }


def test_the_papers_three_quarters():
    found = mixtures(KWConvNeXt(budget=3 / 4))
    assert found['stage2_pointwise'] == (24, 24, (192, 192))
    assert found['stage3_pointwise'] == (9 * 2 * 16, 9 * 16, (192, 192))
    assert found['stage4_pointwise'] == (3 * 2 * 16, 3 * 16, (384, 384))
    others = [name for name in found if name not in ('stage3_pointwise', 'stage4_pointwise')]
    assert all(found[name][0] == found[name][1] for name in others) and len(others) == 10


def test_other_budgets():
    small, large = mixtures(KWConvNeXt(SMALL, 1 / 2)), mixtures(KWConvNeXt(SMALL, 2))
    assert all(m == 2 * n for name, (m, n, _) in small.items() if 'pointwise' in name)
    assert all(m == n for name, (m, n, _) in small.items() if 'pointwise' not in name)
    assert all(n == 2 * m for m, n, _ in large.values())


def test_the_third_stage_split_into_three():
    plan = convnext_plan((3, 3, 9, 3), split_stage3=True)
    names = [name for name in plan if name.startswith('stage3') and 'downsample' not in name]
    assert names == [
        f'stage3{part}_{kind}' for part in 'abc' for kind in ('depthwise', 'pointwise')
    ]
    assert plan['stage3b_depthwise']['layers'] == [
        f'stages.2.{block}.depthwise_conv' for block in (3, 4, 5)
    ]
    unsplit = convnext_plan((3, 3, 9, 3))
    assert [layer for name in names[1::2] for layer in plan[name]['layers']] == unsplit[
        'stage3_pointwise'
    ]['layers']
    with pytest.raises(
        ValueError, match='split_stage3=True .* 3, 6, 9, ... blocks; this one has 8'
    ):
        KWConvNeXt('nano', split_stage3=True)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(budget=0), 'budget=0'),
        (dict(attention_norm='GN'), "attention_norm='GN'"),
        (dict(freeze_warehouses='some'), "freeze_warehouses='some'"),
        (dict(sharing={'a': ['stages.9']}), "'stages.9'"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        KWConvNeXt(SMALL, **options)


def test_init_weights_gives_attention_and_bias_their_own_start():
    backbone = KWConvNeXt(SMALL)
    cells = {
        name: warehouse.cells.detach().clone() for name, warehouse in backbone.warehouses.items()
    }
    layer = backbone.stages[2][0].pointwise_conv2  # fc1: 192 -> 16, Kaiming with fan-out 16
    nn.init.constant_(layer.attention.fc1.weight, 5)
    backbone.init_weights()
    assert all(torch.equal(value, backbone.warehouses[name].cells) for name, value in cells.items())
    assert float(layer.attention.fc1.weight.detach().std()) == pytest.approx(
        (2 / 16) ** 0.5, rel=0.1
    )
    assert not layer.bias.any() and (layer.attention.norm1.weight == 1).all()
    assert backbone.stages[0][0].gamma.flatten()[0].item() == pytest.approx(1e-6)
    before = layer.attention.fc1.weight.detach().clone()
    backbone.init_weights()  # mmengine's rule: only the first call counts
    assert torch.equal(layer.attention.fc1.weight, before)


def test_drop_path_rises_as_in_the_parent():
    rates = [
        m.drop_prob
        for m in KWConvNeXt(SMALL, drop_path_rate=0.5).modules()
        if isinstance(m, DropPath)
    ]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize('mode, warehouses', [('none', 0), ('exclusive', 6)])
def test_frozen_from_construction_on(mode, warehouses):
    backbone = KWConvNeXt(SMALL, frozen_stages=2, freeze_warehouses=mode, drop_path_rate=0.1)
    backbone.train()
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    early = ('downsample_layers.0.', 'downsample_layers.1.', 'stages.0.', 'stages.1.')
    own = {key for key, _ in backbone.named_parameters() if key.startswith(early)}
    assert own == {key for key in frozen if not key.startswith('warehouses.')}
    assert len(frozen - own) == warehouses  # stem, downsampling, 2 x (depthwise, pointwise)
    assert not backbone.stages[1].training and backbone.stages[2].training


@pytest.mark.parametrize('make', [KWConvNeXt, StaticConvNeXt])
def test_recomputed_stages_give_the_same_gradients(make):
    plain, recomputed = (
        make(SMALL, layer_scale_init_value=0.5),
        make(SMALL, layer_scale_init_value=0.5, with_cp=True),
    )
    assert isinstance(recomputed.stages[0], CheckpointedStage)
    check_same_gradients(plain, recomputed)


def test_one_image_trains():
    KWConvNeXt(SMALL).train()(torch.randn(1, 3, 32, 32))[0].sum().backward()
