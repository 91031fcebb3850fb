"""Frequency band modulation: how much of each band of its input a layer sees, at every position.

The input is split by low-pass filters into four bands; the three higher ones are weighted. The
filters are masks of the input's spectrum, made on a small grid and stretched to its size, as
published. For most sizes stretching treats rows u and H - u differently, so the masked spectrum is
that of no real map; its Hermitian part counts.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.branch import AttentionBranch
from ..ops.precision import HALF
from ..ops.tracing import is_traced
from .fdconv_attention import NEARLY_ZERO
from .fdconv_spectrum import real_edges

GRID_ROWS, GRID_COLUMNS = 64, 33  # a 64 x 64 spectrum without its mirrored half
# the highest frequency that each low-pass filter keeps, in 64ths of a cycle per pixel: below 1/4,
# up to 1/8, up to 1/16 (in the published code, float32 rounding excludes the first one's limit)
LIMITS = (15, 8, 4)


class BandAttention(AttentionBranch):
    """Weights of the bands from a 3x3 convolution of the input.

    With x = (x - L_1) + (L_1 - L_2) + (L_2 - L_3) + L_3, L_i being low-pass filtered x, the first
    three terms are multiplied by 2 sigmoid(z_i), a map each.

    Args:
        in_channels: C.
    """

    one_value_per_channel = False

    def __init__(self, in_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(LIMITS), in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(len(LIMITS)))

    @torch.no_grad()
    def make_neutral(self) -> None:
        """Make all weights 1, whatever the image."""
        self.weight.zero_()
        self.bias.zero_()

    def start_as_published(self) -> None:
        """Logits nearly zero."""
        nn.init.normal_(self.weight, std=NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        logits = F.conv2d(x, self.weight, self.bias, padding=1)
        high, middle, low = (2 * logits.to(_dtype(x)).sigmoid()).split(1, dim=1)
        wide, narrow, narrowest = low_passes(x)
        # the terms in another order, so that weights of 1 leave x as it is, to the bit
        out = high * x + (middle - high) * wide + (low - middle) * narrow + (1 - low) * narrowest
        return out.to(x.dtype)


def low_passes(x: Tensor) -> list[Tensor]:
    """Low-pass filtered maps, one for each of ``LIMITS``, at least in float32.

    Args:
        x (Tensor): Shape (B, C, H, W).
    """
    height, width = x.shape[2:]
    rows = stretched(height, GRID_ROWS / height, GRID_ROWS, x.device)
    rows = torch.minimum(rows, GRID_ROWS - rows)
    masks = [(rows <= limit)[:, None] for limit in LIMITS]
    x = x.to(_dtype(x))
    return _of_any_size(x, masks) if is_traced() else _of_this_size(x, masks)


def _of_this_size(x: Tensor, rows: list[Tensor]) -> list[Tensor]:
    """What is filtered out is not even transformed."""
    width = x.shape[3]
    half = torch.fft.rfft(x, dim=-1)  # (B, C, H, W // 2 + 1)
    kept = kept_columns(half.shape[-1])
    spectrum = torch.fft.fft(half[..., : kept[0]], dim=-2)
    found = []
    for mask, columns in zip(rows, kept):
        passed = torch.fft.ifft(spectrum[..., :columns] * mask, dim=-2)
        found.append(torch.fft.irfft(real_edges(passed, width), n=width, dim=-1))
    return found


def _of_any_size(x: Tensor, rows: list[Tensor]) -> list[Tensor]:
    """Sizes may stay unknown, and transforms are whole: exporters write no others correctly."""
    width = x.shape[3]
    columns = stretched(width, GRID_COLUMNS / (width // 2 + 1), GRID_COLUMNS, x.device)
    # twice a column's real part is that of the column and its mirror image
    twice = (torch.arange(width, device=x.device) > 0).to(x.dtype) + 1
    spectrum = torch.fft.fft2(x)
    return [
        torch.fft.ifft2(spectrum * (mask * (columns <= limit) * twice)).real
        for mask, limit in zip(rows, LIMITS)
    ]


def stretched(size: int, ratio: float, grid: int, device: torch.device) -> Tensor:
    """Which place of a grid each of ``size`` places sees, nearest neighbour, shape (size, ).

    Ratio and products are rounded to float32, as published: that moves an edge in some sizes.
    """
    places = torch.arange(size, dtype=torch.float32, device=device)
    return (places * ratio).floor().clamp(max=grid - 1)


@lru_cache(maxsize=1024)
def kept_columns(size: int) -> list[int]:
    """How many columns of ``size`` each filter keeps; they are the first ones."""
    places = stretched(size, GRID_COLUMNS / size, GRID_COLUMNS, torch.device('cpu'))
    return [int((places <= limit).sum()) for limit in LIMITS]


def _dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in HALF else x.dtype
