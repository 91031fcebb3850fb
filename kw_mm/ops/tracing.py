"""Whether a compiler or an exporter looks on."""

import torch


def is_traced() -> bool:
    """Whether torch.compile, torch.export or a tracer looks on, which need operations they know."""
    compiling = (
        getattr(torch.compiler, 'is_compiling', None) or torch._dynamo.is_compiling
    )  # torch 2.1
    return compiling() or torch.jit.is_tracing()


def is_exported() -> bool:
    """Whether what is computed goes into a file that must serve other batches and sizes; not so under torch.compile."""
    exporting = getattr(torch.compiler, 'is_exporting', None)  # torch 2.7
    return torch.jit.is_tracing() or (exporting is not None and exporting())
