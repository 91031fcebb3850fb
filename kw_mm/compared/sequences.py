"""DY-Conv and ODConv over sequences, computed as two-dimensional ones of height 1.

The papers have them in two dimensions only; the others of this package, and three dimensions, have
no such layers.
"""

from typing import Any

from torch import Tensor

from ..ops.geometry import Size, single
from ..ops.one_node import one_node
from .dy_conv import DYConv2d
from .od_conv import ODConv2d


class OverSequences:
    """Mixin that makes a :class:`DynamicConv2d`, which comes after it, one over sequences.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv1d`; the layer's attributes are those of height 1.
        **options: Of the two-dimensional layer.
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
        **options: Any,
    ):
        (k,), (s,), (d,) = map(single, (kernel_size, stride, dilation))
        sides = padding if isinstance(padding, str) else (0, *single(padding))
        super().__init__(
            in_channels, out_channels, (1, k), (1, s), sides, (1, d), groups, bias, **options
        )

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """As in two dimensions, from the kernel of a Conv1d, shape (C_out, C_in / groups, k)."""
        return super().plain_entries(kernel.unsqueeze(2))

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, L) -> (B, C_out, L_out)."""
        return super().forward(x.unsqueeze(2)).squeeze(2)


class DYConv1d(OverSequences, DYConv2d):
    """DY-Conv over sequences.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv1d`.
        **options: Of :class:`DYConv2d`.

    Example:
        >>> DYConv1d(16, 32, 3, padding=1)(torch.rand(2, 16, 20)).shape
        torch.Size([2, 32, 20])
    """


class ODConv1d(OverSequences, ODConv2d):
    """ODConv over sequences; its spatial attention weighs the k positions.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv1d`.
        **options: Of :class:`ODConv2d`.

    Example:
        >>> ODConv1d(16, 32, 3, padding=1)(torch.rand(2, 16, 20)).shape
        torch.Size([2, 32, 20])
    """
