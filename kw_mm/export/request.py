"""What is written into a file, and what of it can be combined."""

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import UserError
from ..validation import check_choice
from .comparison import BATCHES

PARTS = ('backbone', 'maps', 'detector')
SIZE = (256, 320)  # a P7 of 2 x 3 pixels
LARGER_BY = (37, 70)  # the second size that is compared: no multiple of a stride


class Options(NamedTuple):
    """What is written, and how.

    Args:
        part: 'backbone', 'maps' (raw ones of a detector's dense head) or 'detector'.
        opset: Of ONNX.
        size: (height, width) of the example; the file takes any other, too.
        tolerance: Largest deviation that passes, relative to an output's largest value. Where a
            file deviates by more, it passes if it is about as close to PyTorch in float64 as
            PyTorch in float32 is. Of detections it is that of scores; coordinates may differ by ten
            times as many pixels, and masks in ten times this share of them.
        with_preprocessing: Whether a detector takes images as they are read, in uint8.
        static_batch: The only number of images that the file takes; by default it takes any.
        static_size: The only (height, width) that it takes.
        pictures: Files and folders to compare detections on; by default the config's test images,
            else drawn ones.
    """

    part: str = 'backbone'
    opset: int = 20
    size: Sequence[int] = SIZE
    tolerance: float = 1e-4
    with_preprocessing: bool = False
    static_batch: int | None = None
    static_size: Sequence[int] | None = None
    pictures: Sequence[str] = ()

    @property
    def fixed(self) -> set[str]:
        """Axes of the input that are not free."""
        batch = {'batch'} if self.static_batch else set()
        return batch | ({'height', 'width'} if self.static_size else set())

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """Sizes to compare on, the example's first."""
        if self.static_size:
            return [tuple(self.static_size)]
        larger = tuple(side + more for side, more in zip(self.size, LARGER_BY))
        return [tuple(self.size), larger]

    @property
    def batches(self) -> tuple[int, ...]:
        """Numbers of images to compare on."""
        return (self.static_batch,) if self.static_batch else BATCHES

    @property
    def example(self) -> tuple[int, ...]:
        """Batch, height and width of the example; torch fixes a batch of one."""
        return self.static_batch or 2, *self.sizes[0]

    def check(self, to: str) -> None:
        """Check that a format takes them.

        Raises:
            UserError: It does not; says what would work.
            ValueError: There is no such part.
        """
        check_choice('part', self.part, PARTS)
        for name in ('size', 'static_size'):
            size = getattr(self, name)
            if size is not None and min(size) < 1:
                raise UserError(
                    f'both sides of an image must be positive, got {name}={size[0]} {size[1]}; '
                    f'use for example {SIZE[0]} {SIZE[1]}'
                )
        if self.static_batch is not None and self.static_batch < 1:
            raise UserError(
                f'--static-batch must be 1 or more, got {self.static_batch}; without it, the file '
                'takes any'
            )
        if self.part == 'detector' and to != 'onnx':
            raise UserError(
                f'--part detector goes to ONNX, got --to {to}; --part maps and --part backbone go '
                'to every format'
            )
        if self.with_preprocessing and self.part != 'detector':
            raise UserError(
                f'--with-preprocessing goes with --part detector, got --part {self.part}; other '
                'parts take preprocessed images'
            )
        if self.pictures and self.part != 'detector':
            raise UserError(
                f'--images goes with --part detector, got --part {self.part}; other parts are '
                'compared on random values'
            )
        if self.fixed and to == 'torchscript':
            raise UserError(
                '--static-batch and --static-size go with --to onnx and --to exported-program; a '
                'TorchScript file takes any batch and size'
            )
