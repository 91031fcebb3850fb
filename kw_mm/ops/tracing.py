"""Whether a compiler, an exporter or a tracer is watching."""

from collections.abc import Callable
from typing import TypeVar

import torch

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
