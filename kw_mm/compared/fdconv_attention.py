"""Kernel spatial modulation: FDConv's attention to a kernel, along its axes and value by value."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops.branch import AttentionBranch, Norm, build_norm, check_batch, hidden_units, init_linear
from .axis_attention import Attentions

NEARLY_ZERO = 1e-6  # of the published start


class StarReLU(nn.Module):
    """s max(x, 0)^2 + c with learned s and c."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return self.scale * torch.relu(x).square() + self.bias


class FDConvAttention(AttentionBranch):
    """GAP, FC, norm and StarReLU, then one head for each dimension, 2 sigmoid(z).

    Args:
        in_channels, out_channels: Of the layer.
        positions: kh kw.
        kernel_num: K.
        reduction: Hidden units per input channel, at least 16 in all.
        norm: Normalisation of the hidden units: 'BN1d' as published (then ``fc`` has no bias),
            'LN', 'SyncBN', 'none'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        positions: int,
        kernel_num: int,
        *,
        reduction: float = 1 / 16,
        norm: Norm = 'BN1d',
    ):
        super().__init__()
        hidden = hidden_units(in_channels, reduction)
        norm = build_norm(norm, hidden)
        self.fc = nn.Linear(in_channels, hidden, bias=not isinstance(norm, _BatchNorm))
        self.norm = norm
        self.relu = StarReLU()
        self.channel_fc = nn.Linear(hidden, in_channels)
        self.filter_fc = nn.Linear(hidden, out_channels)
        self.spatial_fc = nn.Linear(hidden, positions) if positions > 1 else None
        self.kernel_fc = nn.Linear(hidden, kernel_num)
        init_linear(self.fc)
        self.make_neutral()

    def heads(self) -> list[nn.Linear]:
        """The last layers."""
        found = (self.channel_fc, self.filter_fc, self.spatial_fc, self.kernel_fc)
        return [head for head in found if head is not None]

    @torch.no_grad()
    def make_neutral(self) -> None:
        """Make all factors 1, whatever the image."""
        for head in self.heads():
            head.weight.zero_()
            head.bias.zero_()

    def start_as_published(self) -> None:
        """Heads nearly zero, but for the filter's, which the published code misses."""
        for head in self.heads():
            nn.init.normal_(head.weight, std=NEARLY_ZERO)
        init_linear(self.filter_fc)

    def forward(self, pooled: Tensor) -> Attentions:
        """Weigh the kernel.

        Args:
            pooled (Tensor): Global average of the layer's input, shape (B, C_in).

        Returns:
            Attentions: Factors in (0, 2), 1 where a logit is 0; ``kernel`` are those of the
            frequency groups, K times the published ones.

        Raises:
            ValueError: One image per GPU in training with a batch norm.
        """
        hidden = self.fc(pooled)
        check_batch(self.norm, hidden, 'FDConv')
        hidden = self.relu(self.norm(hidden))

        def gate(head: nn.Linear | None) -> Tensor | None:
            return None if head is None else 2 * torch.sigmoid(head(hidden))

        return Attentions(
            gate(self.channel_fc), gate(self.filter_fc), gate(self.spatial_fc), gate(self.kernel_fc)
        )


class LocalAttention(AttentionBranch):
    """A factor for each value of the kernel, from a convolution along the input channels.

    Args:
        in_channels, out_channels, kernel_size, groups: Of the layer.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], groups: int = 1
    ):
        super().__init__()
        self.kernel_size, self.groups = kernel_size, groups
        taps = round(math.log2(in_channels) / 2 + 0.5) // 2 * 2 + 1  # half to even, as published
        outputs = out_channels * math.prod(kernel_size)
        self.conv = nn.Conv1d(1, outputs, taps, padding=taps // 2, bias=False)
        self.norm = nn.LayerNorm(in_channels)
        self.make_neutral()

    @torch.no_grad()
    def make_neutral(self) -> None:
        """Make all factors 1, whatever the image."""
        self.conv.weight.zero_()

    def start_as_published(self) -> None:
        """Logits nearly zero."""
        nn.init.constant_(self.conv.weight, NEARLY_ZERO)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, C_in) -> half of the factors, in (0, 1), shape (B, C_out, C_in / groups, kh, kw).

        To double as many values as the kernels have is left to who can do so at less cost.
        """
        logits = self.conv(self.norm(pooled)[:, None])  # (B, C_out kh kw, C_in)
        if self.groups > 1:  # an output sees the inputs of its group
            blocks = logits.unflatten(2, (self.groups, -1)).unflatten(1, (self.groups, -1))
            logits = blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).flatten(1, 2)
        logits = logits.unflatten(1, (-1, *self.kernel_size))  # (B, C_out, kh, kw, C_in / groups)
        return torch.sigmoid(logits.permute(0, 1, 4, 2, 3))
