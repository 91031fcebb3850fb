"""Comparing a written file with PyTorch."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

BATCHES = (1, 2, 3)


class Row(NamedTuple):
    """One comparison.

    Args:
        batch: Images.
        size: (height, width).
        deviation: Largest difference of any output, relative to the largest value of that output.
        rounding: The same between PyTorch's float32 and float64, where that was looked at.
    """

    batch: int
    size: tuple[int, int]
    deviation: float
    rounding: float | None = None


@torch.no_grad()
def compare(
    part: nn.Module,
    run: Callable[[Tensor], list[Tensor]],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int] = BATCHES,
) -> list[Row]:
    """Compare a file's outputs with those of the network it was made from, on random images.

    Args:
        part: Images -> tuple of tensors.
        run: The same, from a file.
        sizes: (height, width) of the images.
        batches: Numbers of images.
    """
    dtype, rows = next(part.parameters()).dtype, []
    for size in sizes:
        for batch, images in zip(batches, _images(size, batches, dtype)):
            rows.append(Row(batch, tuple(size), deviation(part(images), run(images))))
    return rows


@torch.no_grad()
def compare_exactly(
    part: nn.Module,
    run: Callable[[Tensor], list[Tensor]],
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int] = BATCHES,
) -> list[Row]:
    """Compare a file's outputs, and PyTorch's own, with what PyTorch computes in float64.

    Where rounding is magnified, as by untrained attention, two correct computations in float32
    differ by more than either should. Arguments as in :func:`compare`, of a part in float32.
    """
    exact = copy.deepcopy(part).double()
    rows = []
    for size in sizes:
        for batch, images in zip(batches, _images(size, batches, torch.float32)):
            expected = exact(images.double())
            of_file = deviation(expected, [output.double() for output in run(images)])
            of_torch = deviation(expected, [output.double() for output in part(images)])
            rows.append(Row(batch, tuple(size), of_file, of_torch))
    return rows


def _images(size: tuple[int, int], batches: Sequence[int], dtype: torch.dtype) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(sum(size))
    for batch in batches:
        yield torch.randn(batch, 3, *size, generator=generator, dtype=dtype)


def deviation(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Largest difference of any tensor, relative to the largest value of that tensor.

    Args:
        expected: What PyTorch computes.
        found: What the file computes.

    Returns:
        float: Infinite where shapes differ, or where there is a NaN.
    """
    if [one.shape for one in expected] != [other.shape for other in found]:
        return float('inf')
    deviations = [
        float((one - other).abs().max() / one.abs().max().clamp(min=1e-30))
        for one, other in zip(expected, found)
    ]
    # max() of NaN and numbers depends on their order
    return float('inf') if any(map(math.isnan, deviations)) else max(deviations)
