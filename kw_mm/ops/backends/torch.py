"""Convolution with one kernel per image out of operations that any file format can hold for every batch and size.

A grouped convolution over the folded batch would write ``groups = B`` into the file, and choices by
size would write the size. Here is one computation for each geometry: no attribute depends on the
batch, no slice on the size.
"""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from ..reference import Size

Pair = tuple[int, int]


def exported_conv2d(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Tensor:
    """1x1: a matrix product; depthwise: the sum of shifted products; other: patches and a matrix product.

    Arguments and result are those of :func:`kw_mm.ops.conv2d_per_image`.
    """
    out_channels, per_group, *size = map(int, kernels.shape[1:])  # a tracer makes tensors of them
    stride, dilation = _pair(stride), _pair(dilation)
    shifts = _shifts(_pad(x, padding, size, dilation), size, stride, dilation)
    if per_group == 1 and out_channels == groups:
        out = _sum_of_products(shifts, kernels)
    else:
        out = _product_with_patches(shifts, kernels, groups)
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)


def _pad(x: Tensor, padding: Size | str, size: Sequence[int], dilation: Pair) -> Tensor:
    if padding == 'valid':
        return x
    if padding == 'same':
        (top, bottom), (left, right) = (
            (d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for k, d in zip(size, dilation)
        )
    else:
        (top, left), (bottom, right) = _pair(padding), _pair(padding)
    return F.pad(x, (left, right, top, bottom)) if any((left, right, top, bottom)) else x


def _shifts(x: Tensor, size: Sequence[int], stride: Pair, dilation: Pair) -> list[Tensor]:
    """What each of the kh kw kernel positions sees of padded features: each of shape (B, C, H_out, W_out)."""
    rows, columns = (
        [slice(d * i, d * (i + 1 - k) or None, s) for i in range(k)]
        for k, s, d in zip(size, stride, dilation)
    )
    return [strip[..., column] for strip in (x[:, :, row] for row in rows) for column in columns]


def _sum_of_products(shifts: list[Tensor], kernels: Tensor) -> Tensor:
    values = kernels.flatten(2).unbind(2)  # kh kw of shape (B, C)
    return reduce(
        torch.add, (shift * value[..., None, None] for shift, value in zip(shifts, values))
    )


def _product_with_patches(shifts: list[Tensor], kernels: Tensor, groups: int) -> Tensor:
    grouped = [shift.unflatten(1, (groups, -1)) for shift in shifts]
    patches = (
        torch.stack(grouped, dim=2).flatten(4).flatten(2, 3)
    )  # (B, G, kh kw C_in / G, H_out W_out)
    rows = (
        kernels.permute(0, 1, 3, 4, 2).flatten(2).unflatten(1, (groups, -1))
    )  # (B, G, C_out / G, kh kw C_in / G)
    out = torch.matmul(rows, patches).flatten(1, 2)  # (B, C_out, H_out W_out)
    return out.unflatten(2, shifts[0].shape[2:])
