"""What the kernels of this package have in common."""

from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

# Kernels that multiply matrices keep to 4 warps: loops of convolutions with 8 gave wrong results
# in several releases of Triton.
WARPS = 4
PRODUCT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_BLOCK = 16  # the least side of a block of a matrix product
# Arguments for whose values Triton does not compile anew: sizes that differ from layer to layer or
# image to image, and are neither strides nor what loads are aligned by.
VARYING = (
    *('rows', 'mixtures', 'across', 'out_blocks', 'in_blocks', 'blocks_each', 'cell_out'),
    *('batch', 'height', 'width', 'out_height', 'out_width', 'places_each'),
)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    first: Tensor,
    *arguments: Any,
    num_warps: int = WARPS,
    **constants: Any,
) -> None:
    """Start a kernel where its first argument is: by itself Triton takes the current device."""
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[grid](first, *arguments, **constants, num_warps=num_warps)


def power_of_two(size: int, least: int = LEAST_BLOCK, most: int = 128) -> int:
    """The power of two that covers a size, within bounds."""
    return int(min(most, max(least, triton.next_power_of_2(size))))


def blocks(size: int, block: int) -> int:
    """How many blocks cover a size."""
    return -(-size // block)


def splits_for(programs: int, most: int, device: torch.device) -> int:
    """Into how many parts to split a long sum, so that a small grid fills the device."""
    if device.type != 'cuda':
        return min(most, 2)
    wanted = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(most, blocks(wanted, max(programs, 1))))


def summed(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """The parts of a split sum, shape (S, ...), added up in a fixed order."""
    return (parts[0] if len(parts) == 1 else parts.sum(dim=0)).to(dtype)
