"""Derivatives of derivatives, for operators that have a backward pass of their own.

Such a pass is fast where it ends with numbers. Where autograd records it, as under
``create_graph=True``, it has to be made of operators that autograd knows: those of the readable
form, whose own backward pass is taken instead.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def is_recorded() -> bool:
    """Whether the backward pass under way is recorded, to be differentiated again."""
    return torch.is_grad_enabled()


def composite_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """Gradients by the composite form of an operator, which can be differentiated again.

    Args:
        function: The operator, made of torch's own.
        inputs: What it was applied to, as saved.
        grad: Gradient of its result.

    Returns:
        list: One for each input; None for one that needs none.
    """
    wanted = [value for value in inputs if value.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return [next(found) if value.requires_grad else None for value in inputs]
