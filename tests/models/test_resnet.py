import pytest
import torch
from inflate import inflate
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones import ResNet
from recomputed import check_same_gradients
from torch import nn

from kw_mm.models import KWResNet
from kw_mm.models.base import CheckpointedStage
from kw_mm.warehouse import kw_layers


@pytest.mark.parametrize('depth, budget', [(18, 1), (50, 1), (50, 4)])
def test_at_temperature_1_it_is_the_plain_network(depth, budget):
    plain = ResNet(depth, out_indices=(0, 1, 2, 3), zero_init_residual=False)
    backbone = KWResNet(depth, budget, out_indices=(0, 1, 2, 3))
    inflate(backbone, plain)
    backbone.set_temperature(1)
    (
        backbone.double().train(),
        plain.double().train(),
    )  # batch statistics of few values magnify float32's rounding
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for found, expected in zip(backbone(x), plain(x)):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-9 * float(expected.detach().abs().max())
        )


def test_static_layers_of_resnet50():
    plain = {name for name, module in KWResNet(50).named_modules() if isinstance(module, nn.Conv2d)}
    assert plain == {'conv1', 'layer1.0.conv1', 'layer1.0.downsample.0'}


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(depth=20), 'must be one of 18, 34, 50, 101, 152, got depth=20'),
        (dict(depth=18, budget=0), 'budget=0'),
        (dict(depth=18, budget='1x'), "budget='1x'"),
        (dict(depth=18, budget=0.3), r'budget=0.3 .*nearest'),
        (dict(depth=18, drop_path_mode='ramp'), "drop_path_mode='ramp'"),
        (dict(depth=18, freeze_warehouses='some'), "freeze_warehouses='some'"),
        (dict(depth=18, attention_norm='BN'), "attention_norm='BN'"),
        (dict(depth=18, start='shared_cell', budget=2), "warehouse 'stage1': start='shared_cell'"),
        (dict(depth=18, attention_function='tanh'), "attention_function='tanh'"),
        (dict(depth=18, sharing_range='block'), "sharing_range='block'"),
        (dict(depth=18, sharing={'all': ['layer9.0.conv1']}), "'layer9.0.conv1'"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        KWResNet(**options)


def test_drop_path_is_constant_as_published_or_mmpretrains_ramp():
    def rates(**options):
        return [
            m.drop_prob
            for m in KWResNet(18, drop_path_rate=0.1, **options).modules()
            if isinstance(m, DropPath)
        ]

    assert rates() == [0.1] * 8
    ramp = rates(drop_path_mode='linear')
    assert len(ramp) == 7 and ramp == sorted(ramp) and ramp[0] < 0.1 == pytest.approx(ramp[-1])
    assert not [m for m in KWResNet(18).modules() if isinstance(m, DropPath)]


def test_residuals_do_not_start_at_zero():
    backbone = KWResNet(50)
    backbone.init_weights()
    assert (backbone.layer1[0].bn3.weight == 1).all()


def test_init_weights_leaves_warehouses_alone():
    backbone = KWResNet(18)
    before = {
        key: value.clone() for key, value in backbone.state_dict().items() if 'warehouses' in key
    }
    backbone.init_weights()
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize('mode, frozen_warehouses', [('none', set()), ('exclusive', {'stage1'})])
def test_stages_are_frozen_from_construction_on(mode, frozen_warehouses):
    backbone = KWResNet(18, frozen_stages=2, freeze_warehouses=mode)
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    own = {
        key
        for key, _ in backbone.named_parameters()
        if key.startswith(('conv1.', 'bn1.', 'layer1.', 'layer2.'))
    }
    assert frozen == own | {f'warehouses.{name}.cells' for name in frozen_warehouses}
    backbone.train()
    assert not backbone.layer2.training and not backbone.layer2[0].conv1.attention.norm1.training
    assert backbone.layer3.training


def test_strict_freezing_survives_training_and_checkpoints():
    backbone = KWResNet(18, frozen_stages=1, freeze_warehouses='strict', out_indices=(0, 3))
    backbone.train()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    x = torch.randn(2, 3, 64, 64)
    before = backbone(x)[0]
    backbone(x)[-1].square().mean().backward()
    optimizer.step()
    assert torch.equal(backbone(x)[0], before)
    other = KWResNet(18, frozen_stages=1, freeze_warehouses='strict', out_indices=(0, 3))
    other.load_state_dict(backbone.state_dict())
    other.train()
    assert torch.equal(other(x)[0], before)


def test_norm_eval_covers_the_attention_branches():
    backbone = KWResNet(18, norm_eval=True)
    backbone.train()
    norms = [m for m in backbone.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert any(isinstance(m, nn.BatchNorm1d) for m in norms) and not any(m.training for m in norms)
    backbone(torch.randn(1, 3, 64, 64))


def test_recomputed_stages_give_the_same_gradients_and_never_reenter():
    plain, recomputed = KWResNet(50, norm_eval=True), KWResNet(50, norm_eval=True, with_cp=True)
    assert isinstance(recomputed.layer1, CheckpointedStage)
    assert not any(
        getattr(block, 'with_cp', False)
        for block in recomputed.modules()
        if block is not recomputed
    )
    check_same_gradients(plain, recomputed)


def test_a_plan_of_ones_own():
    backbone = KWResNet(18, sharing={'mine': ['layer4.1.conv1', 'layer4.1.conv2']}, budget=2)
    assert list(kw_layers(backbone)) == ['layer4.1.conv1', 'layer4.1.conv2']
    assert backbone.warehouses['mine'].num_cells == 36


def test_without_partition_sharing_and_caf_it_has_the_size_of_dy_conv():
    backbone = KWResNet(
        18,
        4,
        partition=False,
        sharing_range='layer',
        attention_function='softmax',
        zero_cell=False,
        attention_norm='none',
        reduction=1 / 4,
    )
    classifier = 512 * 1000 + 1000
    assert (
        round((sum(p.numel() for p in backbone.parameters()) + classifier) / 1e6, 2) == 45.47
    )  # as published
