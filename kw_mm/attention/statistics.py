"""Attention of whole warehouses: its entropy, and whose cells it goes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor


class LayerAttention(NamedTuple):
    """Attention of one layer.

    Args:
        name: Of the layer in the model.
        alpha: Shape (images, m, n + 1), or (images, m, n) without a zero cell.
        beta: Start attention, shape (m, n + 1) or (m, n).
    """

    name: str
    alpha: Tensor
    beta: Tensor

    @property
    def label(self) -> str:
        """Its name, without what all KW layers of a backbone have in front."""
        return self.name.removeprefix('backbone.')


@dataclass(frozen=True)
class WarehouseAttention:
    """Attention of all layers that draw on one warehouse.

    *Share* means a cell's |alpha| relative to the sum over all cells of a mixture, the zero cell
    included.

    Args:
        name: Of the warehouse.
        num_cells: n.
        temperature: tau when it was recorded.
        layers: In the order of their start cells.
    """

    name: str
    num_cells: int
    temperature: float
    layers: list[LayerAttention]

    @property
    def weights(self) -> Tensor:
        """alpha with the zero cell's column where there is one, shape (images, m_t, n + 1)."""
        return torch.cat([layer.alpha for layer in self.layers], dim=1)

    @property
    def alpha(self) -> Tensor:
        """alpha of the cells, shape (images, m_t, n)."""
        return self.weights[..., : self.num_cells]

    @property
    def zero(self) -> Tensor | None:
        """alpha of the zero cell, shape (images, m_t); None where there is no zero cell."""
        weights = self.weights
        return weights[..., -1] if weights.shape[-1] > self.num_cells else None

    @property
    def starts(self) -> Tensor:
        """Whether a cell is a start cell of a mixture, shape (m_t, n)."""
        return torch.cat([layer.beta for layer in self.layers])[:, : self.num_cells] > 0

    @property
    def shares(self) -> Tensor:
        """Share of every cell, mean over the images, shape (m_t, n + 1)."""
        return shares(self.weights).mean(dim=0)

    @property
    def entropy(self) -> float:
        """Mean entropy of the shares: 0 for a single cell, 1 for all cells alike."""
        return float(entropy(self.weights).mean())

    @property
    def summary(self) -> dict[str, float]:
        """What the attention is like in a few numbers between 0 and 1.

        Returns:
            dict: ``entropy``; the shares of ``start cells`` (of the mixture itself) and of the
                ``zero cell``; ``negative``, the share of cells with a negative weight; and ``by
                image``, how far attention is from its mean over the images, relative to its size.
                This last one is 0 where every image has the same kernels, or there is one image.
        """
        weights, share = self.weights, self.shares
        start = (share[:, : self.num_cells] * self.starts).sum(dim=1).mean()
        zero = share[:, self.num_cells :].sum(dim=1).mean()
        negative = (shares(weights) * (weights < 0)).sum(dim=-1).mean()
        moving = (weights - weights.mean(dim=0)).abs().sum()
        return {
            'entropy': self.entropy,
            'start cells': float(start),
            'zero cell': float(zero),
            'negative': float(negative),
            'by image': float(moving / weights.abs().sum().clamp(min=1e-12)),
        }

    def differences(self, first: int, second: int) -> dict[str, float]:
        """How much the attention of each layer differs between two images.

        Args:
            first: Index of one image, whose attention is a.
            second: Index of the other, whose attention is b.

        Returns:
            dict: sum |a - b| over the mean of sum |a| and sum |b|, by layer: from 0, alike, to 2,
                opposite. The zero cell is not counted.
        """
        found = {}
        for layer in self.layers:
            a, b = (layer.alpha[image, :, : self.num_cells] for image in (first, second))
            found[layer.name] = float(
                (a - b).abs().sum() / ((a.abs().sum() + b.abs().sum()) / 2).clamp(min=1e-12)
            )
        return found

    @property
    def owners(self) -> Tensor | None:
        """Which layer a cell was given to when the warehouse was made, shape (n, ).

        None where layers start from the same cells or from none, and cells belong to nobody.
        """
        firsts = [first_start(layer.beta[:, : self.num_cells]) for layer in self.layers]
        if None in firsts or len(set(firsts)) < len(firsts):
            return None
        return torch.bucketize(torch.arange(self.num_cells), torch.tensor(firsts[1:]), right=True)

    @property
    def layer_rows(self) -> list[tuple[int, int]]:
        """First and last mixture of each layer."""
        counts = torch.tensor([layer.alpha.shape[1] for layer in self.layers])
        ends = counts.cumsum(0)
        return [(int(end - count), int(end) - 1) for end, count in zip(ends, counts)]

    @property
    def layer_labels(self) -> list[str]:
        """Short names of the layers."""
        return [layer.label for layer in self.layers]

    def __str__(self) -> str:
        images, mixtures, cells = self.alpha.shape
        parts = (
            f'{self.name}: {_count(mixtures, "mixture")}',
            _count(cells, 'cell'),
            f'temperature {self.temperature:.2g}',
            _count(images, 'image'),
        )
        return ', '.join(parts)


def mean_summary(warehouses: Sequence[WarehouseAttention]) -> dict[str, float]:
    """The mean over warehouses of each number of their summaries; empty where no layer ran."""
    summaries = [warehouse.summary for warehouse in warehouses]
    keys = summaries[0] if summaries else ()
    return {key: fmean(one[key] for one in summaries) for key in keys}


def shares(weights: Tensor) -> Tensor:
    """Size of each weight relative to the sum of them: |alpha_ij| / sum_p |alpha_ip|.

    Args:
        weights: alpha, cells in the last dimension. Where all of them are 0 shares are equal.
    """
    size = weights.abs()
    total = size.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, size / total, torch.full_like(size, 1 / size.shape[-1]))


def entropy(weights: Tensor) -> Tensor:
    """Entropy of the shares, relative to that of equal shares, in [0, 1].

    Args:
        weights: alpha, cells in the last dimension, which is gone in the result.
    """
    share = shares(weights)
    largest = torch.tensor(float(max(share.shape[-1], 2))).log()
    return torch.special.entr(share).sum(dim=-1) / largest


def first_start(beta: Tensor) -> int | None:
    """The first start cell of a layer; None for one that starts from the zero cell only.

    Args:
        beta: Its start attention without the zero cell, shape (m, n).
    """
    starts = beta.any(dim=0).nonzero()
    return int(starts[0]) if len(starts) else None


def _count(number: int, thing: str) -> str:
    return f'{number} {thing}' if number == 1 else f'{number} {thing}s'
