import pytest
import torch
from inflate import inflate
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from kw_mm.checkpoints.convert import convert
from kw_mm.checkpoints.layouts import rename, reverse
from kw_mm.errors import CheckpointError
from kw_mm.models import KWVisionTransformer, StaticVisionTransformer
from kw_mm.models.vision_transformer import timm_vision_transformer
from kw_mm.warehouse import kw_layers

SMALL = dict(embed_dims=64, num_layers=4, num_heads=1, feedforward_channels=128)
OPTIONS = dict(img_size=64, out_type='raw')


def plain_network(**options):
    network = VisionTransformer(SMALL, **{**OPTIONS, **options})
    for parameter in network.parameters():
        nn.init.normal_(parameter, 1 if parameter.dim() == 1 else 0, 0.1)
    return network


def assert_same(found, expected):
    torch.testing.assert_close(
        found, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max())
    )


@pytest.mark.parametrize('budget', [1, 2])
def test_at_temperature_1_it_is_the_plain_network(budget):
    plain, backbone = plain_network(), KWVisionTransformer(SMALL, budget, temperature=1, **OPTIONS)
    inflate(backbone, plain)
    x = torch.randn(2, 3, 64, 64)
    assert_same(backbone(x)[0], plain(x)[0])


@pytest.mark.parametrize('project', ['mmpretrain', 'timm'])
def test_plain_weights_load(project):
    plain, x = plain_network(), torch.randn(2, 3, 64, 64)
    pairs = reverse(timm_vision_transformer(4)) if project == 'timm' else ()
    state_dict = {rename(key, pairs): value for key, value in plain.state_dict().items()}
    if project == 'timm':
        assert {
            'cls_token',
            'patch_embed.proj.weight',
            'blocks.3.norm2.bias',
            'blocks.0.attn.qkv.weight',
            'blocks.1.mlp.fc2.bias',
            'norm.weight',
        } <= set(state_dict)
    for backbone in (
        KWVisionTransformer(SMALL, temperature=1, **OPTIONS),
        StaticVisionTransformer(SMALL, **OPTIONS),
    ):
        backbone.load_state_dict({**state_dict, 'head.weight': torch.zeros(3, 64)})
        assert_same(backbone(x)[0], plain(x)[0])
    found = convert(state_dict, 'static')['state_dict']
    assert all(
        torch.equal(found[f'backbone.{key}'], value) for key, value in plain.state_dict().items()
    )
    with pytest.raises(
        CheckpointError, match='a vision transformer with 4 layers of 64 channels in the plain'
    ):
        KWVisionTransformer('deit-tiny').load_state_dict(state_dict)


def test_weights_of_another_image_size_are_resized():
    plain, other = plain_network(), plain_network(img_size=96)
    backbone = KWVisionTransformer(SMALL, temperature=1, img_size=96, out_type='raw')
    backbone.load_state_dict(plain.state_dict())
    other.load_state_dict(plain.state_dict())
    assert torch.equal(backbone.pos_embed, other.pos_embed) and backbone.pos_embed.shape[1] == 37


def test_neighbouring_blocks_share():
    backbone = KWVisionTransformer(SMALL)
    shared = {name: layer.warehouse_name for name, layer in kw_layers(backbone).items()}
    assert len(shared) == 16
    assert {shared[f'layers.{i}.attn.{part}'] for i in range(3) for part in ('qkv', 'proj')} == {
        'group1_attention'
    }
    assert {shared[f'layers.{i}.ffn.layers.{part}'] for i in range(3) for part in ('0.0', '1')} == {
        'group1_ffn'
    }
    assert shared['layers.3.attn.qkv'] == 'group2_attention'
    alone = KWVisionTransformer(SMALL, blocks_per_group=1)
    assert len(alone.warehouses) == 8 and alone.warehouses['group4_ffn'].num_cells == 4
    with pytest.raises(ValueError, match='blocks_per_group=0'):
        KWVisionTransformer(SMALL, blocks_per_group=0)


@pytest.mark.parametrize('budget, millions', [(1 / 4, 2.46), (1 / 2, 4.13), (1, 6.17), (4, 22.35)])
def test_parameters_follow_from_the_plan(budget, millions):
    """DeiT-Tiny (5.52 M without classifier): kernels out, cells and attention branches in."""
    d, depth, group = 192, 12, 3
    share = 1 if budget >= 1 else 2  # cells of d / share channels on both sides
    outputs = [
        (d, 3 * d),
        (d, d),
        (d, 4 * d),
        (4 * d, d),
    ]  # qkv, projection, feed-forward: (C_in, C_out)
    kernels = depth * sum(c_in * c_out for c_in, c_out in outputs)
    total = (
        sum(p.numel() for p in VisionTransformer('deit-tiny').parameters())
        - kernels
        + round(kernels * budget)
    )
    for c_in, c_out in outputs:
        m = share * share * c_in * c_out // (d * d)
        n = round(budget * share * share * group * (4 if (c_in, c_out) in outputs[:2] else 8))
        hidden = max(c_in // 16, 16)
        total += depth * ((c_in + 1) * hidden + 2 * hidden + (hidden + 1) * m * (n + 1))
    found = sum(p.numel() for p in KWVisionTransformer(budget=budget).parameters())
    assert found == total and round(found / 1e6, 2) == millions


def test_attention_sees_the_mean_over_tokens():
    backbone = KWVisionTransformer(SMALL, **OPTIONS)
    layer, seen = backbone.layers[0].attn.qkv, []
    layer.attention.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    tokens = torch.randn(2, 17, 64)
    layer(tokens)
    torch.testing.assert_close(seen[0], tokens.mean(dim=1))


@pytest.mark.parametrize('norm', ['LN', 'BN1d'])
def test_init_weights_gives_attention_and_bias_their_own_start(norm):
    backbone = KWVisionTransformer(SMALL, attention_norm=norm)
    cells = backbone.warehouses['group1_ffn'].cells.detach().clone()
    backbone.init_weights()
    layer = backbone.layers[0].ffn.layers[1]
    assert torch.equal(backbone.warehouses['group1_ffn'].cells, cells) and not layer.bias.any()
    assert float(layer.attention.fc1.weight.detach().std()) == pytest.approx(
        (2 / 16) ** 0.5, rel=0.1
    )
    assert 0.01 < float(backbone.pos_embed.detach().std()) < 0.03


def test_frozen_stages():
    free = KWVisionTransformer(SMALL)
    assert all(p.requires_grad for p in free.parameters())
    backbone = KWVisionTransformer(SMALL, frozen_stages=3, freeze_warehouses='exclusive')
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    early = (
        'layers.0.',
        'layers.1.',
        'layers.2.',
        'patch_embed.',
        'cls_token',
        'pos_embed',
        'warehouses.group1_',
    )
    assert frozen == {key for key, _ in backbone.named_parameters() if key.startswith(early)}


@pytest.mark.parametrize(
    'out_type, shape',
    [('cls_token', (2, 64)), ('featmap', (2, 64, 4, 4)), ('avg_featmap', (2, 64))],
)
def test_outputs(out_type, shape):
    backbone = KWVisionTransformer(SMALL, img_size=64, out_type=out_type, out_indices=[1, 3])
    assert [tuple(out.shape) for out in backbone(torch.randn(2, 3, 64, 64))] == [shape, shape]
    backbone.load_state_dict(
        plain_network().state_dict()
    )  # other norms by out_type: kept, and named
