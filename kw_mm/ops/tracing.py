"""Whether a compiler, an exporter, a tracer or a transform is watching."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.autograd import forward_ad

Chosen = TypeVar('Chosen')


def constant_when_compiled(choose: Callable[[], Chosen]) -> Callable[[], Chosen]:
    """Decorate a function whose result compiled code keeps.

    :func:`torch.compiler.assume_constant_result` does the same, and imports the compiler for it.
    """
    choose._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return choose


def is_compiling() -> bool:
    """Whether torch.compile or torch.export is watching."""
    # torch 2.1 has it elsewhere
    compiling: Callable[[], bool] = (
        getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling
    )
    return compiling()


def is_traced() -> bool:
    """Whether a compiler, an exporter or a tracer is watching, which need operations they know."""
    return is_compiling() or _is_jit_tracing()


def is_exported() -> bool:
    """Whether what is computed goes into a file that must serve other batches and sizes.

    Not so under torch.compile.
    """
    exporting = getattr(torch.compiler, 'is_exporting', None)  # since torch 2.7
    return _is_jit_tracing() or (exporting is not None and exporting())


def _is_jit_tracing() -> bool:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing


def is_transformed() -> bool:
    """Whether derivatives are taken otherwise than backwards.

    That is within ``torch.func``'s transforms (``vmap``, ``grad``, ``jvp``, ...), or in forward
    mode: both need every node to be one of torch's own.
    """
    if is_compiling():
        return False
    forward: bool = forward_ad._current_level >= 0
    return forward or torch._C._functorch.peek_interpreter_stack() is not None
