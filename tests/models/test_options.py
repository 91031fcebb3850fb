"""The options of backbones with warehouses."""

import inspect
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest
from mmengine.registry import MODELS

from kw_mm.models import KWConvNeXt, KWMobileNetV2, KWResNet, KWVisionTransformer, WarehouseOptions
from kw_mm.models.options import OF_THE_NETWORK, collect_options
from kw_mm.models.resnet import published_options
from kw_mm.warehouse import apply_kernel_warehouse, kw_layers
from kw_mm.warehouse.kernel_attention import ReducedKernelAttention

SMALL = dict(depths=[1, 1, 1, 1], channels=[16, 32, 48, 64])
DEIT = dict(embed_dims=64, num_layers=1, num_heads=1, feedforward_channels=128)


def defaults_of(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_the_defaults_are_the_published_ones():
    layers = defaults_of(apply_kernel_warehouse)
    assert (layers.pop('inputs'), layers.pop('skip')) == (None, ())  # of the plan 'auto'
    assert layers.pop('init') is None  # the weights that a network has; a backbone has none yet
    assert {**layers, 'init': 'published'} == WarehouseOptions().of_layers()
    assert WarehouseOptions().of_layers() == dict(
        budget=1,
        cell_ratio=(1, 1),
        reduction=1 / 16,
        nonlocal_basis_ratio=1,
        attention_norm='BN1d',
        init='published',
        attention_function='caf',
        zero_cell=True,
        start='one_to_one',
        partition=True,
        sharing_range='stage',
        assemble_checkpoint=False,
        max_attention=4,
    )
    others = {name: getattr(WarehouseOptions(), name) for name in OF_THE_NETWORK}
    assert others == dict(
        sharing=None,
        freeze_warehouses='none',
        train_attention_in_frozen_stages=False,
        temperature=0.0,
        attention_start='plain',
    )


@pytest.mark.parametrize(
    'depth, budget, expected',
    [
        (18, 4, dict()),
        (18, 1 / 2, dict(cell_ratio=(1 / 2, 1 / 2), nonlocal_basis_ratio=1)),
        (50, 1, dict()),
        (50, 1 / 2, dict(cell_ratio=(1 / 2, 1 / 2), nonlocal_basis_ratio=1 / 16)),
    ],
)
def test_published_resnets(depth, budget, expected):
    budget = Fraction(budget)
    assert published_options(depth, budget) == dict(budget=budget, **expected)


@pytest.mark.parametrize(
    'make, norm, hidden',
    [
        (lambda **o: KWMobileNetV2(1.0, 1, **o), 'BatchNorm1d', 960 // 16),
        (lambda **o: KWMobileNetV2(1.0, 1 / 2, **o), 'BatchNorm1d', 960 // 32),
        (lambda **o: KWConvNeXt(SMALL, **o), 'LayerNorm', 256 // 16),
        (lambda **o: KWVisionTransformer(DEIT, **o), 'LayerNorm', 16),
    ],
)
def test_none_is_the_architectures_published_default(make, norm, hidden):
    for options in (dict(), dict(attention_norm=None, reduction=None, temperature=None)):
        branches = [layer.attention for layer in kw_layers(make(**options)).values()]
        assert {type(branch.norm1).__name__ for branch in branches} == {norm}
        widths = {branch.fc1.in_features: branch.fc1.out_features for branch in branches}
        assert widths[max(widths)] == hidden


def test_what_is_given_comes_before_the_published_default():
    backbone = KWResNet(50, 1 / 2, nonlocal_basis_ratio=1, stem_channels=16, base_channels=16)
    branches = [layer.attention for layer in kw_layers(backbone).values()]
    assert not any(isinstance(branch, ReducedKernelAttention) for branch in branches)


def test_options_and_the_other_keywords_are_told_apart():
    keywords = dict(init='plain', with_cp=True, reduction=None, drop_path_rate=0.1)
    options, others = collect_options(KWResNet, keywords, budget=4, reduction=1 / 8)
    assert options == WarehouseOptions(budget=4, init='plain', reduction=1 / 8)
    assert others == dict(with_cp=True, drop_path_rate=0.1)
    with pytest.raises(FrozenInstanceError):
        options.budget = 1


@pytest.mark.parametrize(
    'make, message',
    [
        (
            lambda: KWResNet(50, atention_norm='LN'),
            "KWResNet has no option 'atention_norm'; the nearest is 'attention_norm'",
        ),
        (
            lambda: KWResNet(18, frozen_stage=1),
            "KWResNet has no option 'frozen_stage'; the nearest is 'frozen_stages'",
        ),
        (
            lambda: KWResNet(18, drop_rate_path=0.1),
            "KWResNet has no option 'drop_rate_path'; the nearest is 'drop_path_rate'",
        ),
        (
            lambda: KWConvNeXt(SMALL, split_stage_3=True),
            "KWConvNeXt has no option 'split_stage_3'; the nearest is 'split_stage3'",
        ),
        (
            lambda: KWVisionTransformer(DEIT, block_per_group=2),
            "KWVisionTransformer has no option 'block_per_group'; the nearest is "
            "'blocks_per_group'",
        ),
        (
            lambda: KWResNet(18, qqq=1),
            "KWResNet has no option 'qqq'; there are budget, sharing, .*temperature.*norm_eval",
        ),
        # the published plans of these have it for every warehouse
        (lambda: KWMobileNetV2(cell_ratio=(1, 1)), "KWMobileNetV2 has no option 'cell_ratio'"),
        (lambda: KWConvNeXt(SMALL, cell_ratio=(1, 1)), "KWConvNeXt has no option 'cell_ratio'"),
        (
            lambda: MODELS.build(dict(type='KWMobileNetV2', zero_cel=True)),
            "KWMobileNetV2 has no option 'zero_cel'; the nearest is 'zero_cell'",
        ),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_nearest_one(make, message):
    with pytest.raises(TypeError, match=message) as error:
        make()
    assert '\n' not in str(error.value)
