"""A kernel as the spectrum of a matrix, and kernels from spectra scaled by frequency group.

The kernel (C_out, C_in, kh, kw) becomes a matrix of C_out kh rows and C_in kw columns, of which
FDConv's parameters are the two-dimensional real Fourier transform.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops.precision import HALF
from ..ops.tracing import is_traced


def to_spectrum(kernel: Tensor) -> Tensor:
    """(C_out, C_in, kh, kw) -> half spectrum, shape (C_out kh, C_in kw // 2 + 1, 2)."""
    matrix = kernel.transpose(1, 2).flatten(2).flatten(0, 1)  # (C_out kh, C_in kw)
    return torch.view_as_real(torch.fft.rfft2(matrix))


def to_kernels(spectra: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Half spectra, shape (B, C_out kh, C_in kw // 2 + 1), complex -> (B, C_out, C_in, kh, kw).

    In columns 0 and, of even matrices, C_in kw / 2, rows u and -u are parameters of their own. Only
    their Hermitian part has a real matrix, so it is what counts.

    Args:
        spectra (Tensor): One for each image.
        shape: (C_out, C_in, kh, kw).
    """
    outputs, inputs, height, width = shape
    columns = inputs * width
    half = torch.fft.ifft(spectra, dim=-2)
    matrices = torch.fft.irfft(real_edges(half, columns), n=columns, dim=-1)
    return matrices.view(-1, outputs, height, inputs, width).transpose(2, 3)


def real_edges(half: Tensor, size: int) -> Tensor:
    """Make real, in place, what a real signal of a size has real: columns 0 and size / 2.

    The transform back ignores their imaginary parts on the CPU. Elsewhere it may not.
    """
    if half.device.type != 'cpu':
        imaginary = torch.view_as_real(half)[..., 1]
        imaginary[..., 0] = 0
        if size % 2 == 0 and half.shape[-1] > size // 2:
            imaginary[..., size // 2] = 0
    return half


def scale_groups(spectrum: Tensor, factors: Tensor, groups: Tensor, members: Tensor) -> Tensor:
    """Multiply a spectrum's coefficients by each image's factor of their group.

    Args:
        spectrum (Tensor): Shape (R, C, 2).
        factors (Tensor): Shape (B, K).
        groups (Tensor): Group of each coefficient, int32, shape (R, C).
        members (Tensor): What :func:`members_of` makes of the groups; only for gradients.

    Returns:
        Tensor: Complex, shape (B, R, C), of float32 or more.
    """
    dtype = torch.float32 if spectrum.dtype in HALF else spectrum.dtype
    spectrum, factors = spectrum.to(dtype), factors.to(dtype)
    if is_traced():
        return _per_coefficient(factors, groups) * torch.view_as_complex(spectrum)
    scaled: Tensor = _ScaleGroups.apply(spectrum, factors, groups, members)
    return scaled


def members_of(groups: Tensor, kernel_num: int) -> Tensor:
    """Flat indices of each group's coefficients, shape (K, most of a group).

    Shorter groups are filled up with the number of coefficients, which is no index.
    """
    flat = groups.flatten().long()
    counts = torch.bincount(flat, minlength=kernel_num)
    order = torch.sort(flat, stable=True).indices
    places = torch.arange(int(counts.max()), device=flat.device)
    starts = counts.cumsum(0) - counts
    found = order[(starts[:, None] + places).clamp_(max=len(flat) - 1)]
    return torch.where(places < counts[:, None], found, len(flat)).to(torch.int32)


def _per_coefficient(factors: Tensor, groups: Tensor) -> Tensor:
    """(B, K) -> (B, R, C)."""
    return factors.index_select(1, groups.flatten()).view(-1, *groups.shape)


class _ScaleGroups(torch.autograd.Function):
    """The factors' gradient is a sum over each group's members, in a fixed order.

    That of an indexed read would add millions of values to a few addresses, one after another.
    """

    @staticmethod
    def forward(
        ctx: Any, spectrum: Tensor, factors: Tensor, groups: Tensor, members: Tensor
    ) -> Tensor:
        ctx.save_for_backward(spectrum, factors, groups, members)
        return _per_coefficient(factors, groups) * torch.view_as_complex(spectrum)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        spectrum, factors, groups, members = ctx.saved_tensors
        of_spectrum = of_factors = None
        if ctx.needs_input_grad[0]:
            of_spectrum = torch.view_as_real((_per_coefficient(factors, groups) * grad).sum(0))
        if ctx.needs_input_grad[1]:
            products = (torch.view_as_real(grad) * spectrum).sum(-1).flatten(1)  # (B, R C)
            products = torch.nn.functional.pad(products, (0, 1))
            listed = products.index_select(1, members.flatten())
            of_factors = listed.view(-1, *members.shape).sum(2)
        return of_spectrum, of_factors, None, None
