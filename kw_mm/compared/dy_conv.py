"""DY-Conv: softmax attention over K kernels.

Dynamic Convolution: Attention over Convolution Kernels (CVPR 2020),
https://arxiv.org/abs/1912.03458. No code was published with it; both linear maps have a bias, which
gives the sizes reported for ResNet-18 and -50.
"""

import torch
from torch import Tensor, nn

from ..ops import backend_for
from ..ops.branch import AttentionBranch, hidden_units, init_linear
from ..ops.one_node import one_node
from ..ops.precision import full_precision
from .dynamic_conv import MixedConv2d, SoftmaxTemperature


class DYConvAttention(AttentionBranch):
    """alpha = softmax(z / T), z = FC(ReLU(FC(pooled))).

    Args:
        in_channels: Channels of the layer's input.
        num_kernels: K.
        reduction: Hidden units per input channel.
    """

    def __init__(self, in_channels: int, num_kernels: int, reduction: float = 1 / 4):
        super().__init__()
        hidden = hidden_units(in_channels, reduction, least=1)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, num_kernels)
        init_linear(self.fc1)
        init_linear(self.fc2)

    def forward(self, pooled: Tensor, temperature: Tensor) -> Tensor:
        """(B, C_in) -> alpha, shape (B, K)."""
        return torch.softmax(self.fc2(self.relu(self.fc1(pooled))) / temperature, dim=1)


class DYConv2d(SoftmaxTemperature, MixedConv2d):
    """DY-Conv, a convolution with W = sum_k alpha_k W_k, sum_k alpha_k = 1.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        num_kernels: K; published 4.
        reduction: Hidden units of the attention branch per input channel; published 1/4.

    Example:
        >>> DYConv2d(16, 32, 3, padding=1)(torch.rand(2, 16, 8, 8)).shape
        torch.Size([2, 32, 8, 8])
    """

    def __init__(self, *args, num_kernels: int = 4, reduction: float = 1 / 4, **kwargs):
        super().__init__(*args, num_kernels=num_kernels, **kwargs)
        self.attention = DYConvAttention(self.in_channels, num_kernels, reduction)
        self._add_temperature()

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """The plain kernel, K times: whatever the attentions, they sum to 1."""
        return {'weight': kernel.expand_as(self.weight)}

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        pooled, x = backend_for(x).pool(x)
        with full_precision(pooled):
            alpha = self.attention(pooled, self.temperature)
        return self.convolve(x, self.mix(alpha), self.bias)
