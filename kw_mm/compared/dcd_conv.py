"""DCD: dynamic channel fusion by matrix decomposition.

Revisiting Dynamic Convolution via Matrix Decomposition (ICLR 2021),
https://arxiv.org/abs/2103.08756, code at https://github.com/liyunsheng13/dcd. W(x) = Lambda(x) W_0
+ P Phi(x) Q^T: a static kernel with scaled outputs, and a mixture of L latent channels. The second
term adds features, as in the published code (Q, norm, I + Phi with a norm, P), so no kernel has to
be made for each image. Sizes are those of the published ResNets.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.branch import AttentionBranch, check_batch
from ..ops.one_node import one_node
from ..validation import check_choice
from .dynamic_conv import CONV_STARTS, DynamicConv2d

# Where these are zero, Lambda(x) is 1 and P is 0: what is left is the plain layer.
FUSION = ('attention.fc_scale.weight', 'p.weight')


def gate(z: Tensor) -> Tensor:
    """2 hard-sigmoid(z), in [0, 2] and 1 at 0."""
    return F.relu6(z + 3) / 3


class DCDAttention(AttentionBranch):
    """Phi(x) and Lambda(x) from the pooled input.

    Args:
        in_features: Length of the pooled input.
        out_channels: Channels that Lambda scales.
        dim: L.
        hidden: Hidden units.
    """

    def __init__(self, in_features: int, out_channels: int, dim: int, hidden: int):
        super().__init__()
        self.dim = dim
        self.fc = nn.Linear(in_features, hidden, bias=False)
        self.fc_gate = nn.Linear(hidden, hidden, bias=False)
        self.fc_phi = nn.Linear(hidden, dim**2, bias=False)
        self.fc_scale = nn.Linear(hidden, out_channels, bias=False)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in_features) -> Phi, shape (B, L, L), and Lambda's diagonal, shape (B, C_out)."""
        hidden = self.fc(pooled)
        hidden = hidden * gate(self.fc_gate(hidden))
        return self.fc_phi(hidden).view(-1, self.dim, self.dim), gate(self.fc_scale(hidden))


def without_fusion(layer: nn.Module, plain: Tensor) -> dict[str, Tensor]:
    """Entries with which nothing is scaled or fused: what is left is the plain layer.

    Args:
        layer: With the branch ``attention`` and the last map ``p``.
        plain (Tensor): The weight of the plain layer.
    """
    zero = {key: torch.zeros_like(layer.get_parameter(key)) for key in FUSION}
    return {'weight': plain, **zero}


class DCDConv2d(DynamicConv2d):
    """DCD, a convolution with W(x) = Lambda(x) W_0 + P Phi(x) Q^T. It has no temperature.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias: As in
            :class:`torch.nn.Conv2d`; the padding keeps the size (up to the stride), since Q is a
            1x1 convolution.
        groups: 1.
        pool_size: The attention sees averages over a grid of pool_size x pool_size; published 2 in
            basic blocks, 1 in bottlenecks.
        dim: L; default, as published, the square root of the pooled input's length.
        reduction: Hidden units per pooled input, published 1/16.
        init: 'plain': Lambda(x) is 1 and P is 0, so that the layer is the plain convolution; or
            'published': both at random. The features that P adds grow with the square of the
            input until the norms before it have statistics: a new network overflows in eval mode.

    Raises:
        ValueError: A bad option, groups, or a padding that changes the size.
    """

    assembly_macs = 0  # no kernel is made: what depends on the image multiplies features

    @property
    def fusion_macs(self) -> int:
        """Multiply-adds of Phi(x) at one position, L^2.

        Lambda(x) scales as a normalisation does, and is not counted.
        """
        return self.attention.dim**2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        *,
        pool_size: int = 1,
        dim: int | None = None,
        reduction: float = 1 / 16,
        init: str = 'plain',
    ):
        check_choice('init', init, CONV_STARTS)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        if groups != 1:
            raise ValueError(
                f'groups of DCDConv2d must be 1, since it fuses all channels; got groups={groups}'
            )
        same = tuple(d * (k - 1) // 2 for d, k in zip(self.dilation, self.kernel_size))
        if self.padding not in (same, 'same') or not all(k % 2 for k in self.kernel_size):
            raise ValueError(
                f'DCDConv2d needs an odd kernel and a padding that keeps the size, got '
                f'kernel_size={self.kernel_size}, padding={self.padding}; padding={same} would do'
            )
        pooled = in_channels * pool_size**2
        dim = dim or int(math.sqrt(pooled))
        self.pool_size = pool_size
        self.attention = DCDAttention(
            pooled, out_channels, dim, max(int(max(pooled, dim**2) * reduction), 4)
        )
        self.q = nn.Conv2d(in_channels, dim, 1, self.stride, bias=False)
        self.norm_q = nn.BatchNorm2d(dim)
        self.norm_phi = nn.BatchNorm1d(dim)
        self.p = nn.Conv2d(dim, out_channels, 1, bias=False)
        for conv in (self.q, self.p):
            nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
        for key in FUSION if init == 'plain' else ():
            nn.init.zeros_(self.get_parameter(key))

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """The plain kernel, neither scaled nor joined by latent channels."""
        return without_fusion(self, kernel)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        phi, scale = self.attention(F.adaptive_avg_pool2d(x, self.pool_size).flatten(1))
        out = (
            F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation)
            * scale[..., None, None]
        )
        latent = self.norm_q(self.q(x))  # (B, L, H_out, W_out)
        fused = self.norm_phi(torch.bmm(phi, latent.flatten(2))).view_as(latent)
        out = out + self.p(latent + fused)
        return out if self.bias is None else out + self.bias.to(out.dtype).view(-1, 1, 1)


class DCDLinear(nn.Module):
    """DCD's classifier: a linear layer with W(x) = Lambda(x) W_0 + P Phi(x) Q^T.

    Lambda scales the bias too.

    Args:
        in_features, out_features: As in :class:`torch.nn.Linear`.
        dim: L, and the number of hidden units; published 32.
    """

    assembly_macs = 0  # no kernel is made: what depends on the image multiplies features

    @property
    def fusion_macs(self) -> int:
        """Multiply-adds of Phi(x) at one position, L^2.

        Lambda(x) scales as a normalisation does, and is not counted.
        """
        return self.attention.dim**2

    def __init__(self, in_features: int, out_features: int, *, dim: int = 32):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features).normal_(0, 0.01))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.attention = DCDAttention(in_features, out_features, dim, dim)
        self.q = nn.Linear(in_features, dim, bias=False)
        self.norm_q = nn.BatchNorm1d(dim)
        self.norm_phi = nn.BatchNorm1d(dim)
        self.p = nn.Linear(dim, out_features, bias=False)

    def init_weights(self) -> None:
        """Nothing to do: it is initialised when it is built."""

    def plain_entries(self, weight: Tensor) -> dict[str, Tensor]:
        """Entries with which this is a plain linear layer, given its weight, (C_out, C_in)."""
        return without_fusion(self, weight)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in) -> (B, C_out)."""
        phi, scale = self.attention(x)
        check_batch(self.norm_q, x, 'DCD')
        latent = self.norm_q(self.q(x))
        fused = self.norm_phi(torch.bmm(phi, latent[..., None])[..., 0])
        return F.linear(x, self.weight, self.bias) * scale + self.p(latent + fused)
