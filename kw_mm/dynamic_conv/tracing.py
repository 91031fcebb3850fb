"""Whether a compiler looks on."""
import torch


def is_traced() -> bool:
    """Whether torch.compile, torch.export or a tracer looks on, which need operations they know."""
    compiling = getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling          # torch 2.1
    return compiling() or torch.jit.is_tracing()
