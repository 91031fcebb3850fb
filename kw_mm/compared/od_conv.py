"""ODConv: attention along all four dimensions of K kernels.

Omni-Dimensional Dynamic Convolution (ICLR 2022), https://arxiv.org/abs/2209.07947, code at
https://github.com/OSVAI/ODConv, whose models are met key by key and feature by feature.
W = sum_k alpha_wk (alpha_f x alpha_c x alpha_s) W_k: filter, channel and spatial attention are the
same for all kernels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import backend_for
from ..ops.branch import AttentionBranch, Norm, build_norm, check_batch, hidden_units, init_linear
from ..ops.one_node import one_node
from ..ops.precision import full_precision
from .axis_attention import Attentions, ScaledByAxis, per_channel
from .dynamic_conv import MixedConv2d, SoftmaxTemperature


class ODConvAttention(AttentionBranch):
    """GAP, FC, norm and ReLU, then one head for each dimension.

    Heads are sigmoid(z / T), and softmax(z / T) over kernels.

    Args:
        in_channels, out_channels, groups: Of the layer.
        positions: kh kw.
        num_kernels: K.
        reduction: Hidden units per input channel, at least 16 in all.
        norm: Normalisation of the hidden units: 'BN1d' as published (then ``fc`` has no bias),
            'LN', 'SyncBN', 'none'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        positions: int,
        num_kernels: int,
        *,
        reduction: float = 1 / 16,
        norm: Norm = 'BN1d',
    ):
        super().__init__()
        hidden = hidden_units(in_channels, reduction)
        norm = build_norm(norm, hidden)
        self.fc = nn.Linear(in_channels, hidden, bias=not isinstance(norm, _BatchNorm))
        self.norm = norm
        self.relu = nn.ReLU(inplace=True)
        depthwise = in_channels == groups == out_channels
        self.channel_fc = nn.Linear(hidden, in_channels)
        self.filter_fc = None if depthwise else nn.Linear(hidden, out_channels)
        self.spatial_fc = nn.Linear(hidden, positions) if positions > 1 else None
        self.kernel_fc = nn.Linear(hidden, num_kernels) if num_kernels > 1 else None
        for module in self.children():
            if isinstance(module, nn.Linear):
                init_linear(module)

    def forward(self, pooled: Tensor, temperature: Tensor) -> Attentions:
        """Weigh the kernels.

        Args:
            pooled (Tensor): Global average of the layer's input, shape (B, C_in).
            temperature (Tensor): T, a scalar.

        Raises:
            ValueError: One image per GPU in training with a batch norm.
        """
        hidden = self.fc(pooled)
        check_batch(self.norm, hidden, 'ODConv')
        hidden = self.relu(self.norm(hidden))

        def gate(fc: nn.Linear | None) -> Tensor | None:
            return None if fc is None else torch.sigmoid(fc(hidden) / temperature)

        kernel = (
            None
            if self.kernel_fc is None
            else torch.softmax(self.kernel_fc(hidden) / temperature, dim=1)
        )
        return Attentions(
            gate(self.channel_fc), gate(self.filter_fc), gate(self.spatial_fc), kernel
        )

    def half_open(self) -> tuple[int, dict[str, Tensor]]:
        """Entries of the state dict with which every gate is 1/2 for all images.

        Returns:
            tuple: How many gates a kernel passes, and the entries.
        """
        gates = {
            name: fc
            for name, fc in self.named_children()
            if name in ('channel_fc', 'filter_fc', 'spatial_fc')
        }
        entries = {
            f'{name}.{key}': torch.zeros_like(value)
            for name, fc in gates.items()
            for key, value in fc.state_dict().items()
        }
        return len(gates), entries


class ODConv2d(ScaledByAxis, SoftmaxTemperature, MixedConv2d):
    """ODConv.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        num_kernels: K; published 1 and 4 (2 for ResNet-101).
        reduction: Hidden units of the attention branch per input channel; published 1/16.
        attention_norm: 'BN1d' (published), 'LN', 'SyncBN' or 'none'.

    Example:
        >>> layer = ODConv2d(16, 32, 3, padding=1).eval()
        >>> layer.set_temperature(30)
        >>> layer(torch.rand(2, 16, 8, 8)).shape
        torch.Size([2, 32, 8, 8])
    """

    def __init__(
        self,
        *args,
        num_kernels: int = 4,
        reduction: float = 1 / 16,
        attention_norm: Norm = 'BN1d',
        **kwargs,
    ):
        super().__init__(*args, num_kernels=num_kernels, **kwargs)
        positions = self.kernel_size[0] * self.kernel_size[1]
        self.attention = ODConvAttention(
            self.in_channels,
            self.out_channels,
            self.groups,
            positions,
            num_kernels,
            reduction=reduction,
            norm=attention_norm,
        )
        self._add_temperature()

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of mixing (K > 1), K times a kernel's size, and of scaling, its size each.

        Kernels are scaled by channel and position at once, and by filter.

        What :meth:`forward` scales features by instead of kernels is counted as if on kernels.
        """
        size, branch = self.weight[0].numel(), self.attention
        mixing = 0 if branch.kernel_fc is None else self.weight.numel()
        return mixing + (size if branch.filter_fc is None else 2 * size)

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """The plain kernel, K times, twice as large for every gate that is half open.

        The attention to kernels stays as it is: it sums to 1, and since it depends on the image,
        the K kernels learn to differ.
        """
        gates, entries = self.attention.half_open()
        entries = {f'attention.{key}': value for key, value in entries.items()}
        return {'weight': (kernel * 2**gates).expand_as(self.weight), **entries}

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out).

        Channel and filter attention multiply whichever is smaller, features or kernels; it comes to
        the same.
        """
        pooled, x = backend_for(x).pool(x)
        with full_precision(pooled):
            attention = self.attention(pooled, self.temperature)
        attention = Attentions(*(None if one is None else one.to(x.dtype) for one in attention))
        if attention.spatial is None and attention.kernel is None:  # one kernel, but for scales
            out = F.conv2d(
                x * per_channel(attention.channel),
                self.weight[0],
                None,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
            )
            return self.scaled_outputs(out, attention.filter)
        kernels = self.weight if attention.kernel is None else self.mix(attention.kernel)
        return self.convolve_scaled(x, kernels, attention)
