"""How a GPU multiplies float32: exactly ('ieee'), or on its matrix unit in TF32 ('tf32').

torch has one setting for matrix products, exact by default, and one for convolutions, TF32 by
default. Both have an older and, since torch 2.9, a newer name; reading the older one fails where
the newer one was set.
"""

import torch

from .tracing import constant_when_compiled


@constant_when_compiled
def product_precision() -> str:
    """'ieee' or 'tf32': how torch is set to multiply matrices."""
    flags = torch.backends.cuda.matmul
    if hasattr(flags, 'fp32_precision'):
        return 'tf32' if flags.fp32_precision == 'tf32' else 'ieee'
    return 'tf32' if flags.allow_tf32 else 'ieee'


@constant_when_compiled
def convolution_precision() -> str:
    """'ieee' or 'tf32': how torch is set to convolve."""
    flags = getattr(torch.backends.cudnn, 'conv', None)
    if flags is not None:
        return 'tf32' if flags.fp32_precision == 'tf32' else 'ieee'
    return 'tf32' if torch.backends.cudnn.allow_tf32 else 'ieee'


def is_exact(dtype: torch.dtype) -> bool:
    """Whether matrices of a dtype are multiplied without the matrix unit."""
    return dtype == torch.float32 and product_precision() == 'ieee'


def is_convolved_faster(dtype: torch.dtype) -> bool:
    """Whether convolutions of a dtype have the matrix unit, and products have not."""
    return is_exact(dtype) and convolution_precision() == 'tf32'
