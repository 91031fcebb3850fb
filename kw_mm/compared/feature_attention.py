"""Attention that recalibrates features: what mmpretrain does not have of the compared methods.

CBAM: Convolutional Block Attention Module (ECCV 2018), https://arxiv.org/abs/1807.06521.
ECA-Net: Efficient Channel Attention (CVPR 2020), https://arxiv.org/abs/1910.03151.
"""

import math

import torch
from torch import Tensor, nn


class CBAM(nn.Module):
    """Channel attention, then spatial attention, each from a mean and a maximum.

    Those of the first are taken over positions, of the second over channels.

    Args:
        channels: C.
        reduction: Hidden units of the channel attention per channel.
        kernel_size: Of the spatial attention's convolution.
    """

    def __init__(self, channels: int, reduction: float = 1 / 16, kernel_size: int = 7):
        super().__init__()
        hidden = max(int(channels * reduction), 1)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels)
        )
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        logits = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))  # (B, C)
        x = x * torch.sigmoid(logits)[..., None, None]
        extremes, averages = x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)
        pooled = torch.cat([extremes, averages], dim=1)  # (B, 2, H, W)
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class ECA(nn.Module):
    """Channel attention from a convolution along the channels, as wide as log2(C) asks for.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = int(abs(math.log2(channels) + 1) / 2)
        width += 1 - width % 2  # odd
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        weights = torch.sigmoid(self.conv(x.mean(dim=(2, 3))[:, None]))[:, 0]  # (B, C)
        return x * weights[..., None, None]
