"""The reference path: what the published code computes, in its order of operations.

It is there to be read, to be compared with and to be measured against; nothing chooses it by
itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Union

import torch.nn.functional as F
from torch import Tensor

Size = Union[int, tuple[int, int]]

_depth = 0


@contextmanager
def reference_path() -> Iterator[None]:
    """Within this context every dynamic convolution takes the reference path.

    Example:
        >>> with reference_path():
        ...     expected = backbone(images)
    """
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def on_reference_path() -> bool:
    """Whether the caller is within :func:`reference_path`."""
    return _depth > 0


def grouped_conv2d(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Tensor:
    """Fold the batch into the channels, so that one grouped convolution serves all images.

    Arguments and result are those of :func:`kw_mm.ops.conv2d_per_image`.
    """
    batch, out_channels = kernels.shape[:2]
    folded = x.reshape(1, -1, *x.shape[2:])  # (1, B C_in, H, W)
    out = F.conv2d(folded, kernels.flatten(0, 1), None, stride, padding, dilation, batch * groups)
    out = out.reshape(batch, out_channels, *out.shape[2:])
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)
