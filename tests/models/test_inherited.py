"""Backbones on top of what configs of mmdet and mmseg tell theirs."""

import mmdet.models
import mmpretrain.models
import pytest
import torch
from mmengine.registry import MODELS, Registry
from torch import nn

from kw_mm.errors import CheckpointError
from kw_mm.models import DynamicResNet, KWMobileNetV2, KWResNet, StaticMobileNetV2, StaticResNet

SMALL = dict(base_channels=16, stem_channels=16, out_indices=(0, 1, 2, 3), norm_eval=False)
C4 = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
# as mmdet's and mmseg's configs have them
INHERITED = {
    'fpn': dict(num_stages=4, frozen_stages=1, norm_cfg=dict(type='BN', requires_grad=True)),
    'caffe': dict(style='caffe', norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True),
    'dc5': dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    'd8': dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), style='pytorch'),
    'c4': C4,
    'nothing but defaults': dict(
        dcn=None,
        stage_with_dcn=(False, False, False, False),
        plugins=None,
        pretrained=None,
        with_cp=False,
        init_cfg=None,
        stem_channels=None,
    ),
}
DEEP = dict(deep_stem=True)
DOWN = dict(avg_down=True, **DEEP)


def same(backbone, plain, size=64):
    """Whether two networks compute the same, with batch statistics, in float64."""
    x = torch.randn(2, 3, size, size, dtype=torch.double)
    backbone.double().train(), plain.double().train()
    with torch.no_grad():
        found, expected = backbone(x), plain(x)
    assert len(found) == len(expected)
    return all(
        one.shape == other.shape
        and float((one - other).abs().max()) <= 1e-9 * float(other.abs().max())
        for one, other in zip(found, expected)
    )


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('name', INHERITED)
def test_what_mmdets_resnet_was_told(name, depth):
    options = {**SMALL, **INHERITED[name]}
    plain = mmdet.models.ResNet(depth, **options)
    backbone = KWResNet(depth, temperature=1, **options).double()  # the start is exact to rounding
    backbone.load_state_dict(plain.state_dict())
    assert same(backbone, plain)


@pytest.mark.parametrize('make', [KWResNet, StaticResNet])
@pytest.mark.parametrize('depth, options', [(18, DEEP), (50, DOWN), (50, {**DOWN, **C4})])
def test_weights_of_resnets_of_other_stems(make, depth, options):
    temperature = dict(temperature=1) if make is KWResNet else {}
    backbone = make(depth, **temperature, **SMALL | options).double()
    kinds = mmdet.models.ResNet, mmpretrain.models.ResNet
    for plain in (kind(depth, **SMALL | options) for kind in kinds):
        backbone.load_state_dict(plain.state_dict())
        assert same(backbone, plain), type(plain)


def test_weights_of_a_deep_stem_of_timm():
    plain = StaticResNet(50, **SMALL, **DOWN).state_dict()
    parts = dict(zip('012', ('0 1', '3 4', '6 bn1')))
    timm = {}
    for key, value in plain.items():
        if key.startswith('stem.'):
            _, i, part, leaf = key.split('.')
            conv, norm = parts[i].split()
            number = conv if part == 'conv' else norm
            key = f'bn1.{leaf}' if number == 'bn1' else f'conv1.{number}.{leaf}'
        elif key.startswith('layer1.0.downsample.'):  # timm pools by a stride of 1, too
            head, number, leaf = key.rsplit('.', 2)
            key = f'{head}.{int(number) + 1}.{leaf}'
        timm[key] = value
    backbone = StaticResNet(50, **SMALL, **DOWN)
    backbone.load_state_dict(timm)
    assert all(torch.equal(plain[key], value) for key, value in backbone.state_dict().items())


def dilations_of(backbone):
    convs = [[getattr(block, 'conv3', None) for block in stage] for stage in backbone.stages()]
    name = 'conv2' if convs[0][0] is not None else 'conv1'
    layers = [[getattr(block, name).geometry for block in stage] for stage in backbone.stages()]
    assert all(one.dilation == one.padding for stage in layers for one in stage)
    return [[one.dilation[0] for one in stage] for stage in layers]


@pytest.mark.parametrize('depth, blocks', [(18, (2, 2, 2, 2)), (50, (3, 4, 6, 3))])
def test_dilations_of_mmsegs_resnets(depth, blocks):
    d8 = dict(**SMALL, **INHERITED['d8'])
    ones = [[1] * blocks[0], [1] * blocks[1]]
    plain = dilations_of(KWResNet(depth, **d8))
    assert plain == [*ones, [2] * blocks[2], [4] * blocks[3]]
    contracted = dilations_of(KWResNet(depth, contract_dilation=True, **d8))
    assert contracted == [*ones, [1] + [2] * (blocks[2] - 1), [2] + [4] * (blocks[3] - 1)]
    grid = (1, 2, 4)[: blocks[3]]
    backbone = KWResNet(depth, contract_dilation=True, multi_grid=grid, **d8)
    assert dilations_of(backbone) == [*contracted[:3], list(grid)]
    assert [out.shape[-1] for out in backbone(torch.randn(2, 3, 64, 64))] == [16, 8, 8, 8]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(dcn=dict(type='DCNv2', deform_groups=1)), 'deformable .*write dcn=None'),
        (dict(plugins=[dict(cfg=dict(type='ContextBlock'))]), 'plugins must be None.*=None'),
        (dict(groups=32, base_width=4), 'groups must be 1, got groups=32: .* grouped'),
        (dict(num_stages=0), 'num_stages must be from 1 to 4, got num_stages=0'),
        (dict(num_stages=5), 'num_stages must be from 1 to 4'),
        (dict(strides=(1, 2, 2)), r'strides must be 4 positive integers.*got strides=\(1, 2, 2\)'),
        (dict(dilations=(1, 1, 1, 0)), 'dilations must be 4 positive integers'),
        (dict(multi_grid=(1, 2)), 'multi_grid must be 3 positive integers, one for each block'),
        (dict(pretrained='a.pth', init_cfg=dict(type='Pretrained', checkpoint='b')), 'both name'),
    ],
)
@pytest.mark.parametrize('make', [KWResNet, StaticResNet])
def test_what_has_no_counterpart_is_refused_with_the_way_out(make, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make(50, **options)
    assert '\n' not in str(error.value)


def test_options_of_another_kind_of_backbone_are_refused_with_the_way_out():
    swin = dict(embed_dims=96, num_heads=[3, 6, 12, 24], window_size=7)
    conv = dict(type='ODConv2d')
    for make in (KWResNet, StaticResNet, lambda *a, **o: DynamicResNet(*a, conv=conv, **o)):
        with pytest.raises(TypeError, match="no option 'embed_dims'; .*_delete_=True.*strides"):
            make(50, **swin)


def test_pretrained_is_short_for_init_cfg():
    plain = mmdet.models.ResNet(18)
    for make in (KWResNet, StaticResNet):
        backbone = make(18, pretrained='x.pth')
        assert backbone.init_cfg == dict(type='Pretrained', checkpoint='x.pth')
        with pytest.raises(TypeError, match='pretrained must be a file, a URL or None, got'):
            make(18, pretrained=dict(a=1))
    assert StaticMobileNetV2(pretrained='x.pth').init_cfg['checkpoint'] == 'x.pth'
    assert plain.depth == backbone.depth


@torch.no_grad()
def test_three_stages_of_a_whole_network():
    """Stage 3 shares cells with stage 4: its features are those of the whole network."""
    whole = KWResNet(50, **SMALL).eval()
    options = {**SMALL, **C4}
    with pytest.raises(CheckpointError, match='cells_of_all_stages=True beside num_stages=3'):
        KWResNet(50, **options).load_state_dict(whole.state_dict())
    backbone = KWResNet(50, cells_of_all_stages=True, **options).eval()
    assert not hasattr(backbone, 'layer4') and list(backbone.warehouses)[-1] == 'stage3'
    backbone.load_state_dict(whole.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone(x)[0], whole(x)[2], rtol=0, atol=0)
    again = KWResNet(50, cells_of_all_stages=True, **options)
    again.load_state_dict(backbone.state_dict())
    assert again.feat_dim == backbone(x)[0].shape[1] and again.num_stages == 3


@pytest.mark.parametrize(
    'theirs, ours, words',
    [
        (DEEP, {}, 'like ResNet-18 with a stem of three convolutions .deep_stem=True'),
        (dict(in_channels=1), {}, 'like ResNet-18 with in_channels=1'),
        (dict(base_channels=16), {}, 'like ResNet-18 with base_channels=16'),
        ({}, dict(base_channels=16, stem_channels=64), 'this KWResNet is ResNet-18 with base_chan'),
        (DOWN, DEEP, 'and pooling before downsampling .avg_down=True'),
        ({}, dict(in_channels=4), 'is ResNet-18 with in_channels=4'),
    ],
)
def test_networks_of_one_depth_are_told_apart(theirs, ours, words):
    weights = StaticResNet(18, **theirs).state_dict()
    with pytest.raises(CheckpointError, match=words):
        KWResNet(18, **ours).load_state_dict(weights)


@pytest.mark.parametrize(
    'theirs, ours, words',
    [
        (dict(attention_norm='LN'), {}, 'other options .missing: .*norm1.* build it with the red'),
        (dict(reduction=1 / 4), {}, 'build it with the reduction, attention_norm'),
        (dict(sharing_range='layer'), {}, 'the sharing plan, sharing_range|attention_norm'),
        (dict(norm_cfg=dict(type='GN', num_groups=8)), {}, 'norm_cfg and conv_cfg'),
        (dict(temperature=1), dict(budget=2), 'budget 1, but this KWResNet .* with budget 2'),
    ],
)
def test_equal_words_are_no_reason(theirs, ours, words):
    """Where both are a ResNet-18 in words, the message names the options that decide."""
    weights = KWResNet(18, base_channels=16, **theirs).state_dict()
    with pytest.raises(CheckpointError, match=words) as error:
        KWResNet(18, base_channels=16, **ours).load_state_dict(weights)
    assert (
        'but this KWResNet is ResNet-18 with base_channels=16 in the kw_mm layout with budget 1'
        not in str(error.value)
    )


MOBILE = dict(widen_factor=0.5, out_indices=(1, 2, 4, 6))


@pytest.mark.parametrize(
    'strides, dilations, sizes',
    [
        (None, None, [16, 8, 4, 2]),
        ((1, 2, 2, 1, 1, 1, 1), (1, 1, 1, 2, 2, 4, 4), [16, 8, 8, 8]),
        ((1, 2, 2, 2, 1, 1, 1), (1, 1, 1, 1, 1, 2, 2), [16, 8, 4, 4]),
    ],
)
def test_strides_and_dilations_of_mmsegs_mobilenet(strides, dilations, sizes):
    options = dict(strides=strides, dilations=dilations, **MOBILE)
    plain, backbone = StaticMobileNetV2(**options), KWMobileNetV2(temperature=1, **options)
    backbone.double().load_state_dict(plain.state_dict())
    assert same(backbone, plain)
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    assert [out.shape[-1] for out in backbone(x)] == sizes
    for group, dilation in enumerate(dilations or [1] * 7, start=1):
        first, *others = (block.conv[-2].conv for block in getattr(plain, f'layer{group}'))
        assert first.dilation == first.padding == (dilation, dilation)
        assert all(conv.dilation == (1, 1) for conv in others)  # only the first, as in mmseg


def test_a_stride_less_is_a_residual_more():
    """Where a group has its predecessor's channels, as in narrow networks."""
    backbone = StaticMobileNetV2(0.25, strides=(1, 1, 2, 2, 1, 2, 1))
    assert backbone.layer2[0].use_res_connect and not backbone.layer3[0].use_res_connect
    assert not StaticMobileNetV2(0.25).layer2[0].use_res_connect


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(strides=(1, 2, 2)), ValueError, 'strides must be 7 positive integers'),
        (dict(strides=(1, 2, 2, 3, 1, 1, 1)), ValueError, 'strides must be 1 or 2'),
        (dict(dilations=(1,) * 6 + (0,)), ValueError, 'dilations must be 7 positive integers'),
        (dict(num_stages=4), TypeError, "no option 'num_stages'"),
    ],
)
@pytest.mark.parametrize('make', [StaticMobileNetV2, KWMobileNetV2])
def test_bad_geometry_of_a_mobilenet(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_geometry_of_other_convolutions_is_not_changed_afterwards():
    conv = dict(conv_cfg=dict(type='DYConv2d', num_kernels=2))
    StaticMobileNetV2(0.5, **conv)
    StaticResNet(18, **SMALL, **conv)
    for make in (
        lambda: StaticMobileNetV2(0.5, strides=(1, 2, 2, 1, 1, 1, 1), **conv),
        lambda: StaticResNet(18, **SMALL, **INHERITED['d8'], multi_grid=(1, 2), **conv),
    ):
        with pytest.raises(ValueError, match='need plain convolutions, got conv_cfg for DYConv2d'):
            make()


def test_a_kw_layer_as_conv_cfg_is_answered():
    for kind in ('KWConv2d', 'KWLinear'):
        with pytest.raises(ValueError, match='warehouse that layers share.*ODConv2d'):
            MODELS.build(dict(type=kind))
    with pytest.raises(ValueError, match="name a KW backbone .type='KWResNet'"):
        mmdet.models.ResNet(18, conv_cfg=dict(type='KWConv2d'))


def test_another_package_finds_it_as_mmpretrains():
    """As mmaction2 needs it, which unpacks what backbones of mmpretrain return."""
    theirs = Registry('model', parent=MODELS, scope='kw_test_action')
    backbone = theirs.build(dict(type='mmpretrain.KWResNet', depth=18, **SMALL))
    assert isinstance(backbone, KWResNet) and isinstance(backbone, nn.Module)
