"""Patches under a sliding window, channels running fastest: the order in which kernels are assembled from cells."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """(H_out, W_out) of a convolution."""
    return tuple(
        (length + 2 * p - d * (k - 1) - 1) // s + 1
        for length, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    )


class Patches(torch.autograd.Function):
    """(B, C, H, W) -> (B, kh kw C, H_out W_out).

    Unlike :func:`torch.nn.functional.unfold`, whose channels run slowest, a kernel of memory order
    (C_out, kh, kw, C_in) multiplies it as it is.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.geometry, ctx.shape = (kernel, stride, padding, dilation), x.shape
        height, width = output_size(x.shape[2:], kernel, stride, padding, dilation)
        padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
        b, c, h, w = padded.stride()
        windows = padded.as_strided(
            (len(x), *kernel, x.shape[1], height, width),
            (b, h * dilation[0], w * dilation[1], c, h * stride[0], w * stride[1]),
        )
        return windows.reshape(len(x), -1, height * width)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        kernel, stride, padding, dilation = ctx.geometry
        batch, channels, height, width = ctx.shape
        rows, columns = output_size((height, width), *ctx.geometry)
        padded = grad.new_zeros(batch, channels, height + 2 * padding[0], width + 2 * padding[1])
        windows = grad.reshape(batch, *kernel, channels, rows, columns)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                top, left = i * dilation[0], j * dilation[1]
                padded[
                    :,
                    :,
                    top : top + (rows - 1) * stride[0] + 1 : stride[0],
                    left : left + (columns - 1) * stride[1] + 1 : stride[1],
                ].add_(windows[:, i, j])
        return (
            padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width],
            None,
            None,
            None,
            None,
        )
