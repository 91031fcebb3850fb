"""Frequency groups of FDConv: which coefficients of a kernel's spectrum share an attention.

Coefficients are ranked by their distance from frequency zero, in cycles per sample of the stacked
kernel matrix, and cut into K groups of equal size. Distances often tie. Here they are compared
exactly, as integers, and equal ones keep their row-major order, so a group map does not depend on a
machine, a version of torch, or a sort.

The published code ranks rounded distances with an unstable sort and does not save the result. For
the matrices of its ResNet-50 that order is known, and ``fdconv_groups.csv`` lists the coefficients
in which it differs from the rule; so these have the published groups, and a published file means
what it meant. For other matrices the rule stands as it is.
"""

import csv
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor

PUBLISHED_KERNEL_NUM = 64


def frequency_groups(rows: int, columns: int, kernel_num: int) -> Tensor:
    """The group of each coefficient of a real matrix's half spectrum.

    Args:
        rows, columns: Of the matrix.
        kernel_num: K, the number of groups.

    Returns:
        Tensor: int32, shape (rows, columns // 2 + 1), values from 0 (lowest frequencies) to K - 1.

    Raises:
        ValueError: Fewer coefficients than groups.

    Example:
        >>> frequency_groups(4, 4, 2)
        tensor([[0, 0, 1],
                [0, 0, 1],
                [0, 1, 1],
                [0, 1, 1]], dtype=torch.int32)
    """
    return _groups(rows, columns, kernel_num).clone()


def has_published_groups(rows: int, columns: int, kernel_num: int) -> bool:
    """Whether the published order is known for a matrix."""
    return kernel_num == PUBLISHED_KERNEL_NUM and (rows, columns) in _exceptions()


@lru_cache(maxsize=64)
def _groups(rows: int, columns: int, kernel_num: int) -> Tensor:
    size = rows * (columns // 2 + 1)
    if size < kernel_num:
        raise ValueError(
            f'kernel_num must be at most the number of coefficients of the spectrum, {size} for a '
            f'kernel matrix of {rows} x {columns}, got kernel_num={kernel_num}; published is 64'
        )
    rank = torch.empty(size, dtype=torch.int64, device='cpu')
    order = torch.sort(_squared_distances(rows, columns).flatten(), stable=True).indices
    rank[order] = torch.arange(size, device='cpu')
    groups = (rank * kernel_num // size).to(torch.int32)
    if has_published_groups(rows, columns, kernel_num):
        indices, published = _exceptions()[rows, columns]
        groups[indices] = published
    return groups.view(rows, -1)


def _squared_distances(rows: int, columns: int) -> Tensor:
    """(f_u^2 + f_v^2) (rows columns)^2, exactly."""
    down, across = (torch.arange(n, device='cpu') for n in (rows, columns // 2 + 1))
    down = torch.minimum(down, rows - down)
    return (down * columns)[:, None] ** 2 + (across * rows)[None] ** 2


@lru_cache(maxsize=1)
def _exceptions() -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """{(rows, columns): (flat indices, their published groups)} for K = 64."""
    text = files(__package__).joinpath('fdconv_groups.csv').read_text(encoding='ascii')
    found = {}
    for line in csv.DictReader(text.splitlines()):
        pairs = [pair.split(':') for pair in line['index:group'].split()]
        indices, groups = torch.tensor([[int(part) for part in pair] for pair in pairs]).T
        found[int(line['rows']), int(line['columns'])] = indices, groups.to(torch.int32)
    return found
