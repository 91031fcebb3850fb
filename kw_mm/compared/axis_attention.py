"""Attention along a kernel's axes, multiplied where it is cheapest: in kernels or in features."""

import math
from typing import NamedTuple

from torch import Tensor

from ..ops.tracing import is_exported


class Attentions(NamedTuple):
    """Factors of one kernel per image; None where there is nothing to weigh.

    Args:
        channel: alpha_c, shape (B, C_in).
        filter: alpha_f, shape (B, C_out); None for depthwise layers, where it would repeat alpha_c.
        spatial: alpha_s, shape (B, kh kw); None for 1x1 kernels.
        kernel: alpha_w, shape (B, K); None for K = 1.
    """

    channel: Tensor
    filter: Tensor | None
    spatial: Tensor | None
    kernel: Tensor | None


class ScaledByAxis:
    """Mixin for a :class:`DynamicConv2d` whose kernels have factors for channels and filters.

    They multiply whichever is smaller, features or kernels; it comes to the same.
    """

    @staticmethod
    def scales_kernels(kernel: int, features: int) -> bool:
        """Whether attention multiplies kernels, not features, given how many values each has.

        In exported files, which must not depend on the size of the image, always.
        """
        return is_exported() or kernel < features

    def convolve_scaled(self, x: Tensor, kernels: Tensor, attention: Attentions) -> Tensor:
        """Convolve with kernels that are still to be multiplied by all but ``attention.kernel``.

        Args:
            x (Tensor): Shape (B, C_in, H, W).
            kernels (Tensor): Shape (B, C_out, C_in / groups, kh, kw), or of one kernel for all.
            attention: Factors, in any dtype.

        Returns:
            Tensor: Shape (B, C_out, H_out, W_out).
        """
        scale_inputs = self.scales_kernels(kernels[0].numel(), x[0].numel())
        factors = []
        if scale_inputs:
            per_group = self.in_channels // self.groups
            factors.append(attention.channel.view(-1, self.groups, 1, per_group, 1, 1))
        else:
            x = x * per_channel(attention.channel.to(x.dtype))
        if attention.spatial is not None:
            factors.append(attention.spatial.view(-1, 1, 1, 1, *self.kernel_size))
        if factors:
            scaled = kernels.unflatten(1, (self.groups, -1)) * math.prod(
                factors[1:], start=factors[0]
            )
            kernels = scaled.flatten(1, 2)
        if attention.filter is None:
            return self.convolve(x, kernels.to(x.dtype), self.bias)
        positions = x.shape[2] * x.shape[3] // math.prod(self.stride)
        if self.scales_kernels(kernels[0, 0].numel(), positions):
            kernels = kernels * attention.filter[..., None, None, None]
            return self.convolve(x, kernels.to(x.dtype), self.bias)
        return self.scaled_outputs(self.convolve(x, kernels.to(x.dtype)), attention.filter)

    def scaled_outputs(self, out: Tensor, filter_attention: Tensor | None) -> Tensor:
        """Outputs by filter attention, and the bias, which is not weighed."""
        if filter_attention is not None:
            out = out * per_channel(filter_attention.to(out.dtype))
        return out if self.bias is None else out + per_channel(self.bias[None].to(out.dtype))


def per_channel(values: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1)."""
    return values[..., None, None]
