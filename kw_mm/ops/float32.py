"""How a GPU multiplies float32: exactly ('ieee'), or on its matrix unit in TF32 ('tf32').

torch has one setting for matrix products, exact by default, and one for convolutions, TF32 by
default. Both have an older and, since torch 2.9, a newer name; reading the older one fails where
the newer one was set.
"""

from functools import cache
from typing import Any

import torch

from .tracing import constant_when_compiled

TF32_CAPABILITY = (8, 0)  # of NVIDIA's GPUs that have TF32, whatever is set
# What tells names apart: products of torch 2.1 raise for a name that they do not know.
HAS_NEWER_NAMES = hasattr(torch.backends.cudnn, 'conv')


@constant_when_compiled
def product_precision() -> str:
    """'ieee' or 'tf32': how torch is set to multiply matrices."""
    flags = torch.backends.cuda.matmul
    tf32 = flags.fp32_precision == 'tf32' if HAS_NEWER_NAMES else flags.allow_tf32
    return 'tf32' if tf32 else 'ieee'


@constant_when_compiled
def convolution_precision() -> str:
    """'ieee' or 'tf32': how torch is set to convolve."""
    flags: Any = torch.backends.cudnn
    tf32 = flags.conv.fp32_precision == 'tf32' if HAS_NEWER_NAMES else flags.allow_tf32
    return 'tf32' if tf32 else 'ieee'


def is_exact(dtype: torch.dtype) -> bool:
    """Whether matrices of a dtype are multiplied without the matrix unit."""
    return dtype == torch.float32 and product_precision() == 'ieee'


def is_convolved_faster(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether convolutions of a dtype have a GPU's matrix unit, and products have not."""
    return is_exact(dtype) and convolution_precision() == 'tf32' and has_tf32(device)


@cache
def has_tf32(device: torch.device) -> bool:
    """Whether a GPU has TF32."""
    return torch.version.hip is None and (
        torch.cuda.get_device_capability(device) >= TF32_CAPABILITY
    )
