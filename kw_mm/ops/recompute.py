"""Kernels that are not kept for the backward pass but mixed again in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def kernels_recomputed(kernels: Tensor, mix_again: Callable[[], Tensor]) -> Iterator[None]:
    """Within this context, autograd saves a recipe in place of kernels.

    That is, in place of ``kernels``, of a view of them, or of a grouped convolution's copy.

    Args:
        kernels: What was mixed, shape (B, C_out, C_in / groups, kh, kw); a view of, or all of, one
            storage.
        mix_again: Gives a tensor with the same values in the same memory order.
    """
    storage, batch = kernels.untyped_storage().data_ptr(), len(kernels)
    folded = (batch * kernels.shape[1], *kernels.shape[2:])

    def pack(saved: Tensor) -> Any:
        if saved.untyped_storage().data_ptr() == storage:
            return saved.size(), saved.stride(), saved.storage_offset()
        return None if batch > 1 and saved.shape == folded else saved

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            again = mix_again()
            return again.flatten(0, 1) if packed is None else again.as_strided(*packed)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
