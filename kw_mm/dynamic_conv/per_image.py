"""Convolution and linear maps in which every image of the batch has its own kernel."""
from typing import Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

Size = Union[int, Tuple[int, int]]


def conv2d_per_image(x: Tensor,
                     kernels: Tensor,
                     bias: Tensor = None,
                     stride: Size = 1,
                     padding: Union[Size, str] = 0,
                     dilation: Size = 1,
                     groups: int = 1) -> Tensor:
    """Convolve image b of the batch with kernel b.

    The batch is folded into the channels, so that one grouped convolution serves all images;
    a single image needs no folding.

    Args:
        x (Tensor): Features, shape (B, C_in, H, W).
        kernels (Tensor): One kernel per image, shape (B, C_out, C_in / groups, kh, kw).
        bias (Tensor, optional): Shared by all images, shape (C_out, ).
        stride, padding, dilation, groups: As in :func:`torch.nn.functional.conv2d`.

    Returns:
        Tensor: Shape (B, C_out, H_out, W_out).
    """
    if len(x) == 1:
        return F.conv2d(x, kernels[0], bias, stride, padding, dilation, groups)
    batch, out_channels = kernels.shape[:2]
    folded = x.reshape(1, -1, *x.shape[2:])                          # (1, B C_in, H, W)
    out = F.conv2d(folded, kernels.flatten(0, 1), None, stride, padding, dilation, batch * groups)
    out = out.reshape(batch, out_channels, *out.shape[2:])
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)


def linear_per_image(x: Tensor, weights: Tensor, bias: Tensor = None) -> Tensor:
    """Apply weight matrix b to sample b.

    Args:
        x (Tensor): Shape (B, ..., C_in).
        weights (Tensor): One matrix per sample, shape (B, C_out, C_in).
        bias (Tensor, optional): Shared by all samples, shape (C_out, ).

    Returns:
        Tensor: Shape (B, ..., C_out).
    """
    tokens = x.reshape(len(x), -1, x.shape[-1])                      # (B, T, C_in)
    out = torch.bmm(tokens, weights.transpose(1, 2)).reshape(*x.shape[:-1], weights.shape[1])
    return out if bias is None else out + bias.to(out.dtype)
