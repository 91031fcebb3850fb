"""Where a convolution looks: kernel size, stride, padding, dilation and groups, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

Pair = tuple[int, int]
Size = int | Sequence[int]


@dataclass(frozen=True)
class Geometry:
    """Geometry of a two-dimensional convolution.

    Args:
        kernel_size: (height, width).
        stride, dilation: (vertical, horizontal).
        padding: (vertical, horizontal) on both sides, or 'same' or 'valid' as in torch.
        groups: As in :class:`torch.nn.Conv2d`.

    Attributes:
        sides: Padding (left, right, top, bottom), the order of :func:`torch.nn.functional.pad`.
        pads: (vertical, horizontal) padding on both sides; None where the sides differ, as they do
            for an even kernel with padding='same'.

    Raises:
        ValueError: An unknown word for the padding, or padding='same' with a stride.
    """

    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair | str = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    if TYPE_CHECKING:  # else no fields: torch 2.5 and 2.6 compile copies made from every field
        sides: tuple[int, int, int, int] = field(init=False)
        pads: Pair | None = field(init=False)

    @classmethod
    def of(
        cls,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
    ) -> Geometry:
        """From what :class:`torch.nn.Conv2d` takes: a number stands for two."""
        words = padding if isinstance(padding, str) else pair(padding)
        return cls(pair(kernel_size), pair(stride), words, pair(dilation), groups)

    def __post_init__(self) -> None:
        (top, bottom), (left, right) = self._vertical_and_horizontal()
        object.__setattr__(self, 'sides', (left, right, top, bottom))
        symmetric = top == bottom and left == right
        object.__setattr__(self, 'pads', (top, left) if symmetric else None)

    def _vertical_and_horizontal(self) -> tuple[Pair, Pair]:
        if self.padding == 'valid':
            return (0, 0), (0, 0)
        if not isinstance(self.padding, str):
            return (self.padding[0],) * 2, (self.padding[1],) * 2
        if self.padding != 'same' or self.stride != (1, 1):
            raise ValueError(
                f"padding must be a number, a pair, 'valid', or 'same' with a stride of 1; got "
                f'padding={self.padding!r} with stride={self.stride}'
            )
        totals = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation)]
        vertical, horizontal = ((total // 2, total - total // 2) for total in totals)
        return vertical, horizontal

    @property
    def is_pointwise(self) -> bool:
        """Whether it is one matrix product per position: 1x1, no padding, one group."""
        return self.kernel_size == (1, 1) and self.pads == (0, 0) and self.groups == 1

    def output_size(self, size: Sequence[int]) -> Pair:
        """(H_out, W_out) of features of (H, W)."""
        left, right, top, bottom = self.sides
        padded = size[0] + top + bottom, size[1] + left + right
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation)]
        height, width = (
            (whole - span) // step + 1 for whole, span, step in zip(padded, spans, self.stride)
        )
        return height, width


class HasGeometry:
    """Mixin: a layer's geometry under the names that :class:`torch.nn.Conv2d` has for its parts."""

    geometry: Geometry

    @property
    def kernel_size(self) -> Pair:
        """(height, width)."""
        return self.geometry.kernel_size

    @property
    def stride(self) -> Pair:
        """(vertical, horizontal)."""
        return self.geometry.stride

    @property
    def padding(self) -> Pair | str:
        """(vertical, horizontal) on both sides, 'same' or 'valid'."""
        return self.geometry.padding

    @property
    def dilation(self) -> Pair:
        """(vertical, horizontal)."""
        return self.geometry.dilation

    @property
    def groups(self) -> int:
        """As in :class:`torch.nn.Conv2d`."""
        return self.geometry.groups


def pair(value: Size) -> Pair:
    """(a, b) from a number or from two of them."""
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


def single(value: Size) -> tuple[int]:
    """(a, ) from a number or from a sequence of one."""
    (number,) = (value,) if isinstance(value, int) else value
    return (int(number),)
