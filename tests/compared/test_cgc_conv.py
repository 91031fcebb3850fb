import pytest
import torch
import torch.nn.functional as F

from kw_mm.compared.cgc_conv import CGCConv2d


def gate_by_hand(gate, image):
    """One image's gate, from the definition, with batch norms in eval mode."""
    kh, kw = gate.kernel_size
    context = (
        F.adaptive_avg_pool2d(image, (kh, kw)).reshape(len(image), kh * kw) @ gate.encode.weight.T
    )

    def normed(name, rows):  # channels are rows
        n = getattr(gate, name)
        out = F.batch_norm(rows.T, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps)
        return F.relu(out).T

    of_inputs = normed('norm_in', context) @ gate.decode_in.weight.T
    size = len(image) // gate.groups
    mixed = torch.cat(
        [
            gate.mix.weight @ normed('norm_mix', context)[i * size : (i + 1) * size]
            for i in range(gate.groups)
        ]
    )
    of_outputs = normed('norm_out', mixed) @ gate.decode_out.weight.T
    values = torch.empty(gate.out_channels, len(image), kh * kw)
    for out in range(gate.out_channels):
        for inp in range(len(image)):
            values[out, inp] = torch.sigmoid(of_inputs[inp] + of_outputs[out])
    return values.reshape(gate.out_channels, len(image), kh, kw)


def with_statistics(conv, x):
    """The layer in eval mode after it has seen some images."""
    for _ in range(3):
        conv(x + torch.randn_like(x))
    return conv.eval()


@pytest.mark.parametrize(
    'channels, kernel_size, options',
    [
        ((32, 48), 3, dict(padding=1)),
        ((3, 8), 7, dict(stride=2, padding=3)),
        ((16, 4), (1, 3), dict(dilation=2, bias=False)),
    ],
)
def test_it_is_a_convolution_with_a_gated_kernel_for_each_image(channels, kernel_size, options):
    x = torch.randn(3, channels[0], 11, 9)
    conv = with_statistics(CGCConv2d(*channels, kernel_size, **options), x)
    expected = torch.cat(
        [
            F.conv2d(
                image[None],
                conv.weight * gate_by_hand(conv.gate, image),
                conv.bias,
                conv.stride,
                conv.padding,
                conv.dilation,
            )
            for image in x
        ]
    )
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_gradients_and_one_image():
    conv = CGCConv2d(32, 32, 3, padding=1)
    conv(torch.randn(1, 32, 6, 6)).square().sum().backward()  # context has several positions
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


def test_1x1_kernels_are_plain():
    conv, x = CGCConv2d(8, 6, 1, groups=2), torch.randn(2, 8, 4, 4)
    assert conv.gate is None and conv.assembly_macs == 0
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, groups=2))


@pytest.mark.parametrize(
    'args, message',
    [
        ((24, 32, 3), '24 input and 32 output'),
        ((32, 33, 3), '32 input and 33 output'),
        ((32, 32, 3, 1, 1, 1, 2), 'groups=2'),
    ],
)
def test_what_cannot_be_gated_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        CGCConv2d(*args)
