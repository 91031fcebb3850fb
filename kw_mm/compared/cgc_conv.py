"""Context-gated convolution.

Context-Gated Convolution (ECCV 2020), https://arxiv.org/abs/1910.05577: a static kernel, every
value of which is scaled for each image by a gate made from the whole input. It follows the
published code (https://github.com/XudongLinthu/context-gated-convolution), 1x1 convolutions being
plain ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import Geometry, convolve
from ..ops.branch import AttentionBranch
from ..ops.geometry import Size
from ..ops.one_node import one_node

GROUP = 16  # input channels that interact


class ContextGateAttention(AttentionBranch):
    """Gate of a kernel's values from the input's context.

    Args:
        in_channels: C_in; below 16, or a multiple of 16.
        out_channels: C_out; a multiple of C_in / 16.
        kernel_size: (kh, kw).

    Raises:
        ValueError: Channels that do not fall into groups.
    """

    one_value_per_channel = False  # but a vector, whose width is ``latent``

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size):
        super().__init__()
        group = min(GROUP, in_channels)
        if in_channels % group or out_channels % (in_channels // group):
            raise ValueError(
                f'groups of {GROUP} input channels must make equal shares of the output channels, '
                f'got {in_channels} input and {out_channels} output channels; 64 and 128 would do'
            )
        self.kernel_size, self.out_channels = kernel_size, out_channels
        self.groups = in_channels // group
        positions = kernel_size[0] * kernel_size[1]
        latent = positions // 2 + 1
        self.encode = nn.Linear(positions, latent, bias=False)
        self.norm_in, self.norm_mix = nn.BatchNorm1d(in_channels), nn.BatchNorm1d(in_channels)
        self.mix = nn.Linear(group, out_channels // self.groups, bias=False)
        self.norm_out = nn.BatchNorm1d(out_channels)
        self.decode_in = nn.Linear(latent, positions, bias=False)
        self.decode_out = nn.Linear(latent, positions, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> gates in (0, 1), shape (B, C_out, C_in, kh, kw)."""
        averages = F.adaptive_avg_pool2d(x, self.kernel_size).flatten(2)  # (B, C_in, kh kw)
        context = self.encode(averages)  # (B, C_in, latent)
        of_inputs = self.decode_in(F.relu(self.norm_in(context)))  # (B, C_in, kh kw)
        shape = self.groups, -1
        grouped = F.relu(self.norm_mix(context)).unflatten(1, shape)  # (B, groups, group, latent)
        mixed = self.mix(grouped.transpose(2, 3)).transpose(2, 3)  # (B, groups, C_out / groups, ..)
        # contiguous, or compiled code takes its gradient to be so
        mixed = mixed.flatten(1, 2).contiguous()  # (B, C_out, latent)
        of_outputs = self.decode_out(F.relu(self.norm_out(mixed)))  # (B, C_out, kh kw)
        return torch.sigmoid(of_inputs[:, None] + of_outputs[:, :, None]).unflatten(
            -1, self.kernel_size
        )


class CGCConv2d(nn.Conv2d):
    """Convolution with a kernel gated by the context of each image.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias: As in
            :class:`torch.nn.Conv2d`.
        groups: 1, except for 1x1 kernels.

    Raises:
        ValueError: Groups, or channels that cannot be gated.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self.geometry = Geometry.of(kernel_size, stride, padding, dilation, groups)
        self.gate = None
        if self.kernel_size != (1, 1):
            if groups != 1:
                raise ValueError(f'groups={groups}: context gating is defined for groups=1')
            self.gate = ContextGateAttention(in_channels, out_channels, self.kernel_size)

    @property
    def assembly_macs(self) -> int:
        """Multiplications that make one image's kernel."""
        return self.weight.numel() if self.gate is not None else 0

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        if self.gate is None:
            return super().forward(x)
        kernels = self.gate(x) * self.weight  # (B, C_out, C_in, kh, kw)
        return convolve(x, kernels, self.bias, self.geometry)
