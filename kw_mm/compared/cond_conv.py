"""CondConv: sigmoid routing over K kernels ("experts").

CondConv: Conditionally Parameterized Convolutions for Efficient Inference (NeurIPS 2019),
https://arxiv.org/abs/1904.04971. The layers of a residual block share one routing, computed from
the block's input (:func:`share_routing`); the classifier is :class:`CondLinear`. Both follow from
the size reported for ResNet-18; a routing of every layer's own would add 10 k parameters to it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.branch import AttentionBranch
from ..ops.one_node import one_node
from ..ops.pool import average
from ..ops.precision import full_precision
from .dynamic_conv import MixedConv2d, check_num_kernels


class CondConvAttention(AttentionBranch):
    """Routing weights alpha = sigmoid(FC(pooled)), each expert by itself.

    Args:
        in_channels: Channels of the layer's input.
        num_kernels: K.
    """

    def __init__(self, in_channels: int, num_kernels: int):
        super().__init__()
        self.fc = nn.Linear(in_channels, num_kernels)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, C_in) -> alpha, shape (B, K)."""
        return torch.sigmoid(self.fc(pooled))

    def paired(self) -> dict[str, Tensor]:
        """Entries of the state dict with which the weights sum to K / 2 for all images.

        Experts come in pairs with opposite logits, whose weights sum to 1; an odd one has 1/2.
        """
        entries = {}
        for key, value in self.fc.state_dict().items():
            half = value[: len(value) // 2]
            entries[f'fc.{key}'] = torch.cat(
                [half, -half, torch.zeros_like(value[2 * len(half) :])]
            )
        return entries


def plain_experts(layer: nn.Module, plain: Tensor) -> dict[str, Tensor]:
    """Entries with which K equal experts under a paired routing are one plain layer.

    Args:
        layer: With a ``weight`` of K experts and, unless another layer has it, its ``attention``.
        plain (Tensor): The weight of the plain layer.
    """
    weight = (plain * (2 / len(layer.weight))).expand_as(layer.weight)
    routing = {} if layer.attention is None else layer.attention.paired()
    return {'weight': weight, **{f'attention.{key}': value for key, value in routing.items()}}


class CondConv2d(MixedConv2d):
    """CondConv, a convolution with W = sum_k alpha_k W_k, 0 < alpha_k < 1. It has no temperature.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        num_kernels: K; published 8.
    """

    def __init__(self, *args, num_kernels: int = 8, **kwargs):
        super().__init__(*args, num_kernels=num_kernels, **kwargs)
        self.attention: CondConvAttention | None = CondConvAttention(self.in_channels, num_kernels)
        self._leader = ()  # a tuple, so that nn.Module does not adopt the layer it may hold
        self._hands_on = self._is_last = False
        self._routing: Tensor | None = None

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """The plain kernel, scaled, for every expert; see :func:`plain_experts`."""
        return plain_experts(self, kernel)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        return self.convolve(x, self.mix(self.route(x)), self.bias)

    def route(self, x: Tensor) -> Tensor:
        """alpha, shape (B, K): this layer's own, or its block's first layer's.

        Raises:
            RuntimeError: The first layer of the block has not run before this one.
        """
        if not self._leader:
            pooled = average(x)
            with full_precision(pooled):
                routing = self.attention(pooled)
            self._routing = routing if self._hands_on else None
            return routing
        routing = self._leader[0]._routing
        if routing is None:
            raise RuntimeError(
                'this CondConv2d shares the routing of the first layer of its block, which has to '
                'run before it'
            )
        if self._is_last:
            self._leader[0]._routing = None  # or it would keep the whole graph alive
        return routing


def share_routing(layers: Sequence[CondConv2d]) -> None:
    """Let layers use the first one's routing.

    They must always run one after the other, as those of a block do.

    Raises:
        ValueError: Layers with different numbers of kernels.
    """
    if len({layer.num_kernels for layer in layers}) > 1:
        raise ValueError(
            f'layers with {sorted({layer.num_kernels for layer in layers})} kernels cannot share a '
            'routing; give all of them the same num_kernels'
        )
    first, *others = layers
    first._hands_on = bool(others)
    for layer in others:
        layer.attention, layer._leader, layer._is_last = None, (first,), layer is others[-1]


class CondLinear(nn.Module):
    """CondConv's classifier: a linear layer with W = sum_k alpha_k W_k.

    Args:
        in_features, out_features, bias: As in :class:`torch.nn.Linear`; the bias is shared by all
            kernels.
        num_kernels: K; published 8.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, num_kernels: int = 8
    ):
        super().__init__()
        check_num_kernels(num_kernels)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(
            torch.empty(num_kernels, out_features, in_features).normal_(0, 0.01)
        )
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.attention = CondConvAttention(in_features, num_kernels)

    def init_weights(self) -> None:
        """Nothing to do: it is initialised when it is built."""

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of K - 1 matrices beyond a plain layer's, and of mixing K outputs."""
        kernels, size = len(self.weight), self.weight[0].numel()
        return (kernels - 1) * size + kernels * self.out_features

    def plain_entries(self, weight: Tensor) -> dict[str, Tensor]:
        """Entries with which this is a plain linear layer, given its weight, (C_out, C_in)."""
        return plain_experts(self, weight)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in) -> (B, C_out). Mixing K outputs costs no more than mixing K matrices."""
        outputs = F.linear(x, self.weight.flatten(0, 1)).view(
            -1, *self.weight.shape[:2]
        )  # (B, K, C_out)
        mixed = torch.bmm(self.attention(x)[:, None].to(outputs.dtype), outputs)[:, 0]
        return mixed if self.bias is None else mixed + self.bias.to(mixed.dtype)
