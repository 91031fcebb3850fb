"""From plain weights every network with dynamic convolutions is exactly the plain network."""

import pytest
import torch
from mmengine.registry import MODELS

slow = pytest.mark.slow
OUT = dict(
    ResNet=dict(out_indices=(0, 1, 2, 3)),
    MobileNetV2=dict(out_indices=(1, 2, 4, 7)),
    ConvNeXt=dict(arch='tiny', out_indices=[0, 1, 2, 3], gap_before_final_norm=False),
    VisionTransformer=dict(arch='deit-tiny', img_size=32, out_indices=[5, 11], out_type='featmap'),
)
KW = [
    *(('ResNet', dict(depth=18), budget) for budget in (1, 2, 4)),
    pytest.param('ResNet', dict(depth=50), 1, marks=slow),
    pytest.param('ResNet', dict(depth=50), 4, marks=slow),
    pytest.param('ResNet', dict(depth=101), 1, marks=slow),
    *(('MobileNetV2', dict(widen_factor=width), b) for width in (1.0, 0.5) for b in (1, 4)),
    ('ConvNeXt', {}, 1),
    ('VisionTransformer', {}, 1),
    pytest.param('VisionTransformer', {}, 4, marks=slow),
]  # fmt: skip
DYNAMIC = [
    (network, options, dict(type=conv, **more))
    for network, options in (('ResNet', dict(depth=18)), ('MobileNetV2', {}))
    for conv, more in (
        ('DYConv2d', dict(num_kernels=4)),
        ('ODConv2d', dict(num_kernels=4)),
        ('ODConv2d', dict(num_kernels=1)),
        ('CondConv2d', dict(num_kernels=8)),
        ('DCDConv2d', dict(pool_size=1)),
    )
]


@torch.no_grad()
def plain_network(kind, options):
    """In float64, with nothing at its default that a plain network learns."""
    network = MODELS.build(dict(type=f'Static{kind}', **{**OUT[kind], **options})).double()
    network.train()
    for key, value in [*network.named_parameters(), *network.named_buffers()]:
        if key.endswith('running_var') or 'gamma' in key:
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.normal_(0.5, 0.2)
    return network


def check_same_features(plain, network, temperatures):
    x = torch.randn(2, 3, 32, 32).double()
    network.double().load_state_dict(plain.state_dict())
    plain.eval(), network.eval()
    for temperature in temperatures:
        if temperature is not None:
            network.set_temperature(temperature)
        for found, expected in zip(network(x), plain(x)):
            assert found.shape == expected.shape and float(expected.abs().max()) > 1e-3
            assert float((found - expected).abs().max()) < 1e-9 * float(expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize('kind, options, budget', KW)
def test_kernel_warehouse(kind, options, budget):
    network = MODELS.build(dict(type=f'KW{kind}', budget=budget, **{**OUT[kind], **options}))
    assert float(network.temperature) == 0
    check_same_features(plain_network(kind, options), network, (0, 0.3))


@torch.no_grad()
@pytest.mark.parametrize('kind, options, conv', DYNAMIC)
def test_compared_convolutions(kind, options, conv):
    network = MODELS.build(dict(type=f'Dynamic{kind}', conv=conv, **{**OUT[kind], **options}))
    has_temperature = conv['type'] in ('DYConv2d', 'ODConv2d')
    check_same_features(
        plain_network(kind, options), network, (1, 30) if has_temperature else (None,)
    )


@torch.no_grad()
def test_the_published_r50_at_half_the_cells_starts_near_the_plain_network():
    """With the reduced attention, whose constants are not those of a linear map."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'kw_mm.checkpoints.adapting.print_log', lambda line, **kwargs: lines.append(line)
        )
        plain = MODELS.build(dict(type='StaticResNet', depth=50))
        network = MODELS.build(dict(type='KWResNet', depth=50, budget=1 / 2))
        network.load_state_dict(plain.state_dict())
    assert 'relative error of each warehouse: stage1 ' in lines[0]
    errors = [
        float(part.split()[-1].rstrip('%')) for part in lines[0].split('warehouse: ')[1].split(', ')
    ]
    assert len(errors) == len(network.warehouses) and all(0 < error < 100 for error in errors)
