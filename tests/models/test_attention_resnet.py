"""The attention-based methods that are compared on ResNet-18."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from kw_mm.compared.feature_attention import CBAM, ECA
from kw_mm.models import AttentionResNet, StaticResNet

COMPARED = {
    'se': dict(type='AttentionResNet', attention='se'),
    'cbam': dict(type='AttentionResNet', attention='cbam'),
    'eca': dict(type='AttentionResNet', attention='eca'),
    'cgc': dict(type='StaticResNet', conv_cfg=dict(type='CGCConv2d')),
    'weightnet': dict(
        type='StaticResNet', conv_cfg=dict(type='WeightNetConv2d', min_hidden=8, pointwise=False)
    ),
}


@pytest.mark.parametrize('name', COMPARED)
def test_gradients_and_independent_images(name):
    backbone = MODELS.build(dict(COMPARED[name], depth=18, out_indices=(0, 1, 2, 3)))
    backbone.init_weights()
    backbone.train()
    outputs = backbone(torch.randn(2, 3, 64, 64))
    assert [tuple(out.shape[1:]) for out in outputs] == [
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
        (512, 2, 2),
    ]
    sum(out.square().mean() for out in outputs).backward()
    assert not [
        key
        for key, p in backbone.named_parameters()
        if p.grad is None or not p.grad.isfinite().all()
    ]
    backbone.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for both, *each in zip(backbone(x), backbone(x[:1]), backbone(x[1:])):
            torch.testing.assert_close(
                both, torch.cat(each), rtol=1e-3, atol=1e-4 * float(both.abs().max())
            )


@pytest.mark.parametrize('depth', [18, 50])
def test_attention_ends_the_residual_branch_and_all_else_is_the_static_network(depth):
    static, backbone, x = (
        StaticResNet(depth).eval(),
        AttentionResNet(depth, 'eca').eval(),
        torch.randn(2, 3, 64, 64),
    )
    missing = set(backbone.state_dict()) - set(static.state_dict())
    assert missing == {
        key for key in backbone.state_dict() if '.drop_path.attention.' in key
    } and len(missing) == sum(len(stage) for stage in backbone.stages())
    backbone.load_state_dict({**backbone.state_dict(), **static.state_dict()})
    for stage in backbone.stages():
        for block in stage:
            block.drop_path.attention = nn.Identity()
    assert torch.equal(backbone(x)[0], static(x)[0])
    last, backbone.layer4[-1].drop_path.attention = static.layer4[-1], Halve()
    identity, branch = input_of(last, static, x), input_of(last.drop_path, static, x)
    torch.testing.assert_close(backbone(x)[0], torch.relu(identity + branch / 2))


class Halve(nn.Module):
    def forward(self, x):
        return x / 2


def input_of(module, network, x):
    """What a module of a network sees."""
    seen = []
    hook = module.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].clone())
    )
    network(x)
    hook.remove()
    return seen[0]


def test_frozen_stages_freeze_the_attention():
    backbone = AttentionResNet(18, 'cbam', frozen_stages=1)
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {
        key
        for key, _ in backbone.named_parameters()
        if key.startswith(('conv1.', 'bn1.', 'layer1.'))
    }


def test_unknown_attention_is_refused():
    with pytest.raises(
        ValueError, match="attention must be one of .*'se', 'cbam', 'eca', got attention='ca'"
    ):
        AttentionResNet(18, 'ca')


def test_cbam_by_hand():
    module, x = CBAM(32).eval(), torch.randn(1, 32, 5, 5)
    channel = torch.stack(
        [sum(module.mlp(pool(x[0].flatten(1))) for pool in (mean, maximum))]
    ).sigmoid()
    scaled = x * channel[..., None, None]
    spatial = module.norm(
        module.conv(torch.stack([scaled[0].max(dim=0).values, scaled[0].mean(dim=0)])[None])
    ).sigmoid()
    torch.testing.assert_close(module(x), scaled * spatial)


def mean(values):
    return values.mean(dim=1)


def maximum(values):
    return values.max(dim=1).values


@pytest.mark.parametrize('channels, width', [(64, 3), (128, 5), (256, 5), (512, 5)])
def test_eca_by_hand(channels, width):
    module, x = ECA(channels), torch.randn(2, channels, 3, 3)
    kernel = module.conv.weight[0, 0]
    assert len(kernel) == width
    padded = nn.functional.pad(x.mean(dim=(2, 3)), (width // 2, width // 2))
    weights = torch.stack(
        [(padded[:, i : i + width] * kernel).sum(dim=1) for i in range(channels)], dim=1
    ).sigmoid()
    torch.testing.assert_close(module(x), x * weights[..., None, None])
