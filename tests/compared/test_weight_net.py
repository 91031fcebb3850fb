import pytest
import torch
import torch.nn.functional as F

from kw_mm.compared.weight_net import WeightNetConv2d


def kernel_by_grouped_linear(conv, image):
    """The kernel as the paper makes it: a linear layer in G C_out groups of one input each."""
    attention = conv.attention
    activations = torch.sigmoid(attention.fc2(attention.fc1(image.mean(dim=(1, 2)))))  # (M C_out, )
    made = F.conv2d(
        activations[None, :, None, None], conv.weight.reshape(-1, 1, 1, 1), groups=len(activations)
    )
    return made.reshape(conv.weight.shape)


@pytest.mark.parametrize(
    'options',
    [
        dict(kernel_size=3, padding=1),
        dict(kernel_size=3, stride=2, blocks=4, bias=False),
        dict(kernel_size=1),
        dict(kernel_size=3, dilation=2, groups=2),
        dict(kernel_size=(1, 3), blocks=1),
    ],
    ids=str,
)
def test_it_is_a_convolution_with_a_kernel_from_a_grouped_linear_layer(options):
    conv, x = WeightNetConv2d(16, 12, **options), torch.randn(3, 16, 9, 7)
    expected = torch.cat(
        [
            F.conv2d(
                image[None],
                kernel_by_grouped_linear(conv, image),
                conv.bias,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
            )
            for image in x
        ]
    )
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_gradients():
    conv = WeightNetConv2d(16, 16, 3)
    conv(torch.randn(2, 16, 6, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


def test_hidden_units_and_blocks():
    assert WeightNetConv2d(512, 16, 1).attention.fc1.out_features == 32
    assert WeightNetConv2d(64, 16, 1).attention.fc1.out_features == 16
    assert WeightNetConv2d(64, 16, 1, min_hidden=8).attention.fc1.out_features == 8
    assert WeightNetConv2d(3, 16, 7).attention.blocks == 1  # 2 do not divide 3 channels


def test_1x1_kernels_are_plain_on_demand():
    conv, x = WeightNetConv2d(8, 6, 1, pointwise=False), torch.randn(2, 8, 4, 4)
    assert conv.attention is None and conv.assembly_macs == 0
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias))


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match='blocks=0'):
        WeightNetConv2d(8, 8, 3, blocks=0)
