"""Convolution over volumes in which every sample of the batch has its own kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]
Size3d = int | Sequence[int]


@dataclass(frozen=True)
class Geometry3d:
    """Geometry of a three-dimensional convolution.

    Args:
        kernel_size: (depth, height, width).
        stride, dilation: Likewise.
        padding: Likewise, on both sides, or 'same' or 'valid' as in torch.
        groups: As in :class:`torch.nn.Conv3d`.

    Raises:
        ValueError: An unknown word for the padding, or padding='same' with a stride.
    """

    kernel_size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple | str = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1

    @classmethod
    def of(
        cls,
        kernel_size: Size3d,
        stride: Size3d = 1,
        padding: Size3d | str = 0,
        dilation: Size3d = 1,
        groups: int = 1,
    ) -> Geometry3d:
        """From what :class:`torch.nn.Conv3d` takes: a number stands for three."""
        words = padding if isinstance(padding, str) else triple(padding)
        return cls(triple(kernel_size), triple(stride), words, triple(dilation), groups)

    def __post_init__(self) -> None:
        if not isinstance(self.padding, str) or self.padding == 'valid':
            return
        if self.padding != 'same' or self.stride != (1, 1, 1):
            raise ValueError(
                "padding must be a number, three of them, 'valid', or 'same' with a stride of 1; "
                f'got padding={self.padding!r} with stride={self.stride}'
            )

    @property
    def sides(self) -> list[int]:
        """Padding in the order of :func:`torch.nn.functional.pad`: the last dimension first."""
        totals: list[int] = [0, 0, 0]
        if self.padding == 'same':
            totals = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation)]
        elif not isinstance(self.padding, str):
            totals = [2 * pad for pad in self.padding]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]


def triple(value: Size3d) -> Triple:
    """(a, b, c) from a number or from three of them."""
    if isinstance(value, int):
        return value, value, value
    first, second, third = value
    return int(first), int(second), int(third)


def conv3d_per_image(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    stride: Size3d = 1,
    padding: Size3d | str = 0,
    dilation: Size3d = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve sample b of the batch with kernel b.

    Args:
        x (Tensor): Shape (B, C_in, D, H, W).
        kernels (Tensor): Shape (B, C_out, C_in / groups, kd, kh, kw).
        bias (Tensor, optional): Shared by all samples, shape (C_out, ).
        stride, padding, dilation, groups: As in :func:`torch.nn.functional.conv3d`.

    Returns:
        Tensor: Shape (B, C_out, D_out, H_out, W_out).

    Raises:
        ValueError: An unknown padding.

    Example:
        >>> x, kernels = torch.rand(2, 8, 4, 9, 9), torch.rand(2, 6, 8, 3, 3, 3)
        >>> conv3d_per_image(x, kernels, padding=1).shape
        torch.Size([2, 6, 4, 9, 9])
    """
    size = [int(side) for side in kernels.shape[-3:]]
    return grouped_conv3d(x, kernels, bias, Geometry3d.of(size, stride, padding, dilation, groups))


def grouped_conv3d(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry3d) -> Tensor:
    """One convolution with groups = batch; arguments as in :func:`conv3d_per_image`."""
    batch, out_channels = kernels.shape[:2]
    folded = x.reshape(1, -1, *x.shape[2:])  # (1, B C_in, D, H, W)
    out = F.conv3d(
        folded,
        kernels.flatten(0, 1),
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        batch * geometry.groups,
    )
    out = out.reshape(batch, out_channels, *out.shape[2:])
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1, 1)


def shifted_conv3d(x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry3d) -> Tensor:
    """The same as a matrix product with what each position of the kernel sees.

    No attribute depends on the batch and no slice on the size, so a file of it serves any.
    """
    padded = F.pad(x, geometry.sides) if any(geometry.sides) else x
    slices = [
        [slice(d * i, d * (i + 1 - k) or None, s) for i in range(k)]
        for k, s, d in zip(geometry.kernel_size, geometry.stride, geometry.dilation)
    ]
    shifts = [padded[:, :, depth, row, column] for depth, row, column in product(*slices)]
    grouped = torch.stack([shift.unflatten(1, (geometry.groups, -1)) for shift in shifts], dim=2)
    patches = grouped.flatten(4).flatten(2, 3)  # (B, G, k^3 C_in / G, D_out H_out W_out)
    rows = kernels.flatten(3).transpose(2, 3).flatten(2)  # (B, C_out, k^3 C_in / G)
    out = torch.matmul(rows.unflatten(1, (geometry.groups, -1)), patches)
    maps: Tensor = out.flatten(1, 2).unflatten(2, shifts[0].shape[2:])
    return maps if bias is None else maps + bias.to(maps.dtype).view(1, -1, 1, 1, 1)
