"""Operators that any file format can hold for every batch and size.

A grouped convolution over the folded batch would write ``groups = B`` into the file, and choices by
size would write the size. Here is one computation for each geometry: no attribute depends on the
batch, no slice on the size. Only a file for a fixed batch has grouped convolutions.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conv3d import Geometry3d, shifted_conv3d
from ..geometry import Geometry
from ..reference import grouped_conv2d
from .torch import TorchBackend


class ExportedBackend(TorchBackend):
    """Depthwise: the sum of shifted products; all others: patches and a matrix product.

    Of a fixed batch: a grouped convolution.
    """

    def conv2d(
        self,
        x: Tensor,
        kernels: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        *,
        keep_format: bool = True,
    ) -> Tensor:
        """Convolve image b with kernel b, see :func:`kw_mm.ops.convolve`."""
        # a tracer makes tensors of all sizes, an exporter symbols of those that are free
        if isinstance(x.shape[0], int):
            return grouped_conv2d(x, kernels, bias, geometry)
        out_channels, per_group = map(int, kernels.shape[1:3])  # a tracer makes tensors of them
        shifts = _shifts(x, geometry)
        if per_group == 1 and out_channels == geometry.groups:
            out = _sum_of_products(shifts, kernels)
        else:
            out = _product_with_patches(shifts, kernels, geometry.groups)
        return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)

    def conv3d(
        self, x: Tensor, kernels: Tensor, bias: Tensor | None, geometry: Geometry3d
    ) -> Tensor:
        """Convolve volume b with kernel b, see :func:`kw_mm.ops.conv3d_per_image`."""
        return shifted_conv3d(x, kernels, bias, geometry)


def _shifts(x: Tensor, geometry: Geometry) -> list[Tensor]:
    """What each of the kh kw kernel positions sees: each of shape (B, C, H_out, W_out)."""
    padded = F.pad(x, geometry.sides) if any(geometry.sides) else x
    rows, columns = (
        [slice(d * i, d * (i + 1 - k) or None, s) for i in range(k)]
        for k, s, d in zip(geometry.kernel_size, geometry.stride, geometry.dilation)
    )
    strips = [padded[:, :, row] for row in rows]
    return [strip[..., column] for strip in strips for column in columns]


def _sum_of_products(shifts: list[Tensor], kernels: Tensor) -> Tensor:
    values = kernels.flatten(2).unbind(2)  # kh kw of shape (B, C)
    products = (shift * value[..., None, None] for shift, value in zip(shifts, values))
    return reduce(torch.add, products)


def _product_with_patches(shifts: list[Tensor], kernels: Tensor, groups: int) -> Tensor:
    grouped = torch.stack([shift.unflatten(1, (groups, -1)) for shift in shifts], dim=2)
    patches = grouped.flatten(4).flatten(2, 3)  # (B, G, kh kw C_in / G, H_out W_out)
    rows = kernels.permute(0, 1, 3, 4, 2).flatten(2)  # (B, C_out, kh kw C_in / G)
    out = torch.matmul(rows.unflatten(1, (groups, -1)), patches)  # (B, G, C_out / G, H_out W_out)
    # not unflatten, whose result has a fixed size for torch's older ONNX exporter
    size = shifts[0].shape
    maps: Tensor = out.reshape(size[0], -1, size[2], size[3])  # (B, C_out, H_out, W_out)
    return maps
