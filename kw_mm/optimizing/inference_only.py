"""Making a trained network faster, in place and for inference only."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..ops.branch import AttentionBranch
from ..warehouse import Warehouses
from .folding import BATCH_NORMS, fold_norms

# What is logged here reaches mmengine's log where OpenMMLab is installed.
logger = logging.getLogger('kw_mm')
CELL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def optimize_for_inference(
    module: nn.Module,
    *,
    cells_dtype: torch.dtype | None = None,
    compile: bool | str = False,
    cuda_graph: bool = False,
    pairs: Iterable[tuple[str, str]] = (),
) -> nn.Module:
    """Fold batch norms into the convolutions before them, and more on request.

    Outputs stay the same, but for rounding: 1e-5 of their size in float32. The network cannot be
    trained afterwards, and takes no other checkpoint.

    Args:
        module: Any network: a detector, a backbone, one of torchvision's.
        cells_dtype: What to store the warehouses' cells in: ``torch.bfloat16`` halves what mixing
            reads, and rounds kernels to 8 bits.
        compile: Whether to compile the network, of a detector or classifier its backbone, by
            :func:`torch.compile`; a string names its backend. It takes a minute at the first image.
        cuda_graph: Whether to capture that part as a CUDA graph, by torch.compile's
            'reduce-overhead'. One graph for each size of image. Not tried on a GPU yet.
        pairs: Names (convolution, batch norm) to fold beyond those that are found; a norm in it
            must see that convolution's output, and nothing else may.

    Returns:
        nn.Module: The same network, in evaluation mode.

    Raises:
        UserError: An option that does not fit; the network is unchanged then.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> images = torch.rand(2, 3, 16, 16)
        >>> before = net(images)
        >>> torch.allclose(optimize_for_inference(net)(images), before, atol=1e-5)
        True
    """
    _check(module, cells_dtype, cuda_graph)
    number = _count_norms(module)
    folded = fold_norms(module, pairs)
    module.eval()
    module.requires_grad_(False)
    logger.info('%d of %d batch norms are folded into convolutions', len(folded), number)
    for part in module.modules():
        if isinstance(part, Warehouses) and cells_dtype is not None:
            part.store_cells_as(cells_dtype)
    if compile or cuda_graph:
        options: dict[str, Any] = dict(mode='reduce-overhead') if cuda_graph else {}
        if isinstance(compile, str):
            options['backend'] = compile
        part = getattr(module, 'backbone', module)
        part.forward = torch.compile(part.forward, **options)
    return module


def _count_norms(module: nn.Module) -> int:
    """Batch norms of features; those of attention branches follow linear layers."""
    branches = [part for part in module.modules() if isinstance(part, AttentionBranch)]
    inside = {id(part) for branch in branches for part in branch.modules()}
    return sum(isinstance(p, BATCH_NORMS) and id(p) not in inside for p in module.modules())


def _check(module: nn.Module, cells_dtype: torch.dtype | None, cuda_graph: bool) -> None:
    if cells_dtype is not None and cells_dtype not in CELL_DTYPES:
        raise UserError(
            f'cells_dtype must be one of {", ".join(map(str, CELL_DTYPES))}, got {cells_dtype!r}'
        )
    if cells_dtype is not None and not any(isinstance(p, Warehouses) for p in module.modules()):
        raise UserError(
            f'cells_dtype={cells_dtype} needs kernel warehouses, and this {type(module).__name__} '
            'has none; leave it out'
        )
    devices = {parameter.device.type for parameter in module.parameters()}
    if cuda_graph and devices != {'cuda'}:
        raise UserError(
            f'cuda_graph=True needs the whole network on a GPU, got it on '
            f'{" and ".join(sorted(devices)) or "nothing"}; use compile=True there'
        )
