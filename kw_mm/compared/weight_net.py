"""WeightNet.

WeightNet: Revisiting the Design Space of Weight Networks (ECCV 2020),
https://arxiv.org/abs/2007.11823: a grouped linear layer makes an image's kernel from a pooled
activation vector. With as many inputs as groups, M = G as published, that is a static kernel scaled
by one activation for each output channel and block of input channels; it is written so here. Unlike
the published code (https://github.com/megvii-model/WeightNet), where the layers of a block share
the first linear map, every layer has its own.
"""

import torch
from torch import Tensor, nn

from ..ops import Geometry, backend_for, convolve
from ..ops.branch import AttentionBranch
from ..ops.geometry import Size
from ..ops.one_node import one_node
from ..ops.precision import full_precision


class KernelScaleAttention(AttentionBranch):
    """Factors of a kernel's blocks.

    Args:
        in_channels, out_channels: C_in, C_out.
        blocks: G, blocks of input channels.
        hidden: Units of the first linear map.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, hidden: int):
        super().__init__()
        self.blocks = blocks
        self.fc1 = nn.Linear(in_channels, hidden)
        self.fc2 = nn.Linear(hidden, out_channels * blocks)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, C_in) -> factors in (0, 1), shape (B, C_out, G)."""
        with full_precision(pooled):
            return torch.sigmoid(self.fc2(self.fc1(pooled))).unflatten(1, (-1, self.blocks))


class WeightNetConv2d(nn.Conv2d):
    """Convolution with a kernel made by WeightNet.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        blocks: G, blocks of an output channel's input channels with a factor each; 1 where G does
            not divide them.
        reduction: Hidden units per input channel.
        min_hidden: Hidden units at least; published 16.
        pointwise: Whether 1x1 convolutions are dynamic too, as published.

    Raises:
        ValueError: ``blocks`` below 1.
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
        *,
        blocks: int = 2,
        reduction: float = 1 / 16,
        min_hidden: int = 16,
        pointwise: bool = True,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        if blocks < 1:
            raise ValueError(f'blocks={blocks} must be positive; published 2')
        self.geometry = Geometry.of(kernel_size, stride, padding, dilation, groups)
        self.attention = None
        if pointwise or self.kernel_size != (1, 1):
            blocks = 1 if self.weight.shape[1] % blocks else blocks
            hidden = max(int(in_channels * reduction), min_hidden)
            self.attention = KernelScaleAttention(in_channels, out_channels, blocks, hidden)

    @property
    def assembly_macs(self) -> int:
        """Multiplications that make one image's kernel."""
        return self.weight.numel() if self.attention is not None else 0

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        if self.attention is None:
            return super().forward(x)
        pooled, x = backend_for(x).pool(x)
        factors = self.attention(pooled)  # (B, C_out, G)
        blocks = self.weight.unflatten(1, (self.attention.blocks, -1))  # (C_out, G, C_in/G, kh, kw)
        scaled = factors[..., None, None, None] * blocks  # (B, C_out, G, C_in/G, kh, kw)
        kernels = scaled.flatten(2, 3)  # (B, C_out, C_in, kh, kw)
        return convolve(x, kernels, self.bias, self.geometry)
