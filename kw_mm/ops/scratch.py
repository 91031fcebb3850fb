"""Memory for kernels that are used at once and not kept: one piece for each thread, used again and again."""

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .conv import MAPPED_BYTES

_pieces = threading.local()


def scratch(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU, valid until the thread's next call with that dtype.

    Only large ones are worth it: to map and zero their pages takes longer than to mix cells into
        them.
    """
    pieces: dict[torch.dtype, Tensor] = _pieces.__dict__
    size = math.prod(shape)
    if dtype not in pieces or pieces[dtype].numel() < size:
        pieces.pop(dtype, None)
        with torch.inference_mode(False):  # else nobody could write to it outside of inference mode
            pieces[dtype] = torch.empty(
                size, dtype=dtype, device='cpu'
            )  # whatever the default device
    return pieces[dtype][:size].view(shape)


def worth_scratch(shape: Sequence[int], like: Tensor) -> bool:
    """Whether a tensor of this shape, of the device and dtype of another, is mapped anew at every allocation.

    Memory without contents, as under torch's ``FakeTensorMode``, is none to keep.
    """
    large = like.device.type == 'cpu' and math.prod(shape) * like.element_size() >= MAPPED_BYTES
    return large and type(like) in (Tensor, nn.Parameter) and type(torch.empty(0)) is Tensor
