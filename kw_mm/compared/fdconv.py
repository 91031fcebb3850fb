"""FDConv: a kernel modulated by frequency, value by value, and by band of its input.

Frequency Dynamic Convolution for Dense Image Prediction (CVPR 2025),
https://arxiv.org/abs/2503.18783, code at https://github.com/Linwei-Chen/FDConv, whose layers and
ResNet-50 are met key by key and feature by feature. The layer's parameters are the spectrum of one
kernel, in K groups of frequencies. For each image, groups are weighted (:mod:`.fdconv_groups`,
:mod:`.fdconv_spectrum`), the kernel is multiplied by attention along its axes and for each of its
values (:mod:`.fdconv_attention`), and, for k > 1, the bands of the input are weighted
(:mod:`.fdconv_bands`).

Unlike the published code: the groups are well defined and saved; the start is exactly the plain
convolution (``init='published'`` keeps theirs, whose filter attention is missed by the
initialisation and saturates); groups of channels, odd matrices and any ``kernel_num`` work.
"""

import copy
import logging
import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import backend_for
from ..ops.branch import Norm
from ..ops.geometry import Size
from ..ops.one_node import one_node
from ..ops.pool import average
from ..ops.precision import full_precision
from ..ops.tracing import is_traced
from ..validation import check_choice, check_count
from .axis_attention import ScaledByAxis
from .dynamic_conv import CONV_STARTS, DynamicConv2d
from .fdconv_attention import FDConvAttention, LocalAttention
from .fdconv_bands import LIMITS, BandAttention
from .fdconv_groups import frequency_groups, has_published_groups
from .fdconv_layout import SPECTRUM, from_published_layer, is_published
from .fdconv_spectrum import members_of, scale_groups, to_kernels, to_spectrum

KERNEL_SIZES = (1, 3)  # of a square kernel that is dynamic
MIN_CHANNELS = 17
GROUPS_KEY = 'frequency_groups'

logger = logging.getLogger(__name__)


class FDConv2d(ScaledByAxis, DynamicConv2d):
    """FDConv. It has no temperature.

    Layers of other kernels than 1x1 and 3x3 and layers with few channels, depthwise ones among
    them, are plain convolutions, as published; :attr:`why_plain` says so.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        kernel_num: K, groups of frequencies; published 64.
        reduction: Hidden units of the attention branch per input channel; published 1/16.
        attention_norm: 'BN1d' (published), 'LN', 'SyncBN' or 'none'.
        init: 'plain': all attentions are 1, so that the layer is the plain convolution; or
            'published': nearly so, but for the filter attention, which starts at random.
        min_channels: Input and output channels (of a group) that a dynamic layer has at least.

    Attributes:
        dft_weight (Parameter): Spectrum of the kernel, divided by min(C_in, C_out) // 2, shape
            (1, C_out kh, C_in / groups kw // 2 + 1, 2); a plain layer has ``weight`` instead.
        frequency_groups (Tensor): Group of each coefficient, from 0 to K - 1.

    Raises:
        ValueError: A bad option, or fewer coefficients than groups.

    Example:
        >>> layer = FDConv2d(32, 64, 3, padding=1)
        >>> layer(torch.rand(2, 32, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """

    trains_in_frozen_stages = True  # published: 'KSM' and 'FBM' of frozen stages train

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        kernel_num: int = 64,
        reduction: float = 1 / 16,
        attention_norm: Norm = 'BN1d',
        init: str = 'plain',
        min_channels: int = MIN_CHANNELS,
    ):
        check_count('kernel_num', kernel_num, 'published is 64')
        check_choice('init', init, CONV_STARTS)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self.kernel_num, self.init = kernel_num, init
        self.why_plain = self._why_plain(min_channels)
        if self.why_plain:
            return
        if init == 'published':
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.kernel_shape = tuple(self.weight.shape)  # (C_out, C_in / groups, kh, kw)
        self.dft_weight = nn.Parameter(self._parameters_of(self.weight.detach()))
        del self.weight
        rows, columns = self._matrix
        self.register_buffer(GROUPS_KEY, frequency_groups(rows, columns, kernel_num))
        self._members: tuple[Tensor, int, Tensor] | None = None
        positions = math.prod(self.kernel_size)
        self.attention = FDConvAttention(
            in_channels,
            out_channels,
            positions,
            kernel_num,
            reduction=reduction,
            norm=attention_norm,
        )
        self.band_attention = BandAttention(in_channels) if positions > 1 else None
        self.local_attention = LocalAttention(in_channels, out_channels, self.kernel_size, groups)
        if init == 'published':
            for branch in self._branches().values():
                branch.start_as_published()

    def _why_plain(self, min_channels: int) -> str | None:
        height, width = self.kernel_size
        channels = min(self.in_channels, self.out_channels) // self.groups
        if height != width or height not in KERNEL_SIZES:
            return f'its kernel is {height} x {width}'
        if channels < min_channels:
            return f'it has {channels} channels' + (' a group' if self.groups > 1 else '')
        return None

    @property
    def _matrix(self) -> tuple[int, int]:
        """Rows and columns of the stacked kernel."""
        outputs, inputs, height, width = self.kernel_shape
        return outputs * height, inputs * width

    @property
    def _divisor(self) -> int:
        """m: what the spectrum is divided by in ``dft_weight``."""
        return max(min(self.in_channels, self.out_channels) // 2, 1)

    def _branches(self) -> dict[str, nn.Module]:
        names = ('attention', 'band_attention', 'local_attention')
        found = {name: getattr(self, name) for name in names}
        return {name: branch for name, branch in found.items() if branch is not None}

    # --- what it costs
    @property
    def assembly_macs(self) -> int:
        """Multiplications of the spectrum (real and imaginary parts) and three of the kernel.

        Those are by local, by channel and spatial, and by filter attention. Fourier transforms are
        not counted.
        """
        if self.why_plain:
            return 0
        return self.dft_weight.numel() + 3 * math.prod(self.kernel_shape)

    @property
    def fusion_macs(self) -> int:
        """Multiply-adds of the bands' weights at one position of the output.

        They come from a 3x3 convolution of the input, which has stride^2 as many.
        """
        if self.why_plain or self.band_attention is None:
            return 0
        return 9 * len(LIMITS) * self.in_channels * math.prod(self.stride)

    # --- the convolution
    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        if self.why_plain:
            return F.conv2d(
                x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.band_attention is None:
            pooled, x = backend_for(x).pool(x)
        else:
            pooled, x = average(x), self.band_attention(x)
        with full_precision(pooled):
            attention = self.attention(pooled)
            kernels = self.local_attention(pooled) * self.kernels(2 * attention.kernel)
        return self.convolve_scaled(x, kernels, attention)

    def kernels(self, factors: Tensor) -> Tensor:
        """One kernel for each row of the groups' factors, shape (B, K), 1 for the plain kernel.

        Returns:
            Tensor: Shape (B, C_out, C_in / groups, kh, kw), at least float32.
        """
        factors = factors.to(torch.promote_types(factors.dtype, torch.float32)) * self._divisor
        scaled = scale_groups(
            self.dft_weight[0], factors, self.frequency_groups, self._group_members()
        )
        return to_kernels(scaled, self.kernel_shape)

    def _group_members(self) -> Tensor | None:
        """The groups as lists of indices, which only a backward pass needs."""
        if not torch.is_grad_enabled() or is_traced():
            return None
        groups = self.frequency_groups
        kept = self._members
        if kept is None or kept[0] is not groups or kept[1] != groups._version:
            kept = groups, groups._version, members_of(groups, self.kernel_num)
            self._members = kept
        return kept[2]

    def extra_repr(self) -> str:
        if self.why_plain:
            return f'{super().extra_repr()}, plain: {self.why_plain}'
        text = f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}'
        text += f', stride={self.stride}'
        text += f', groups={self.groups}' if self.groups > 1 else ''
        return f'{text}, kernel_num={self.kernel_num}'

    def _apply(self, fn, *args, **kwargs):
        # `.to(memory_format=torch.channels_last)` is not meant for a spectrum, which has 4 axes
        def without_memory_format(tensor: Tensor) -> Tensor:
            is_spectrum = tensor.dim() == 4 and tensor.shape[-1] == 2
            return fn(tensor.flatten(1)).view(tensor.shape) if is_spectrum else fn(tensor)

        return super()._apply(fn if self.why_plain else without_memory_format, *args, **kwargs)

    # --- the plain convolution in it, and checkpoints
    @torch.no_grad()
    def plain_kernel(self) -> Tensor:
        """The kernel where all attentions are 1, shape (C_out, C_in / groups, kh, kw)."""
        if self.why_plain:
            return self.weight.detach().clone()
        return self.kernels(self.dft_weight.new_ones(1, self.kernel_num))[0]

    @torch.no_grad()
    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """Entries of this layer's state dict that make it start from a plain convolution.

        With ``init='plain'`` it is then exactly that convolution. All entries are there but the
        bias.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kh, kw).
        """
        dtype = torch.promote_types(kernel.dtype, self.dft_weight.dtype)
        spectrum = self._parameters_of(kernel.double()).to(dtype)
        return {SPECTRUM: spectrum, GROUPS_KEY: self._ruled_groups(), **dict(self._start())}

    def adapt_entries(self, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This layer's entries under our names, from any layout.

        Layouts are ours, the published one, with or without attentions, and that of a plain
        convolution.

        Args:
            entries: Tensors by name, without the layer's prefix.
        """
        found = dict(entries)
        if self.why_plain:
            return found
        kernel = found.get('weight')
        if kernel is not None and tuple(kernel.shape) == self.kernel_shape:
            del found['weight']
            return {**found, **self.plain_entries(kernel)}
        if SPECTRUM in found and GROUPS_KEY not in found:
            rows, columns = self._matrix
            if is_published(found) and not has_published_groups(rows, columns, self.kernel_num):
                logger.warning(
                    'a published FDConv file does not say which frequencies form a group, and of '
                    f'a spectrum of {rows} x {columns} only its own machine knew: ours are used, '
                    'and outputs may differ by some per cent'
                )
            found[GROUPS_KEY] = self._ruled_groups()
        if GROUPS_KEY in found:  # saved in fewer bytes
            found[GROUPS_KEY] = found[GROUPS_KEY].to(torch.int32)
        found = from_published_layer(found)
        if SPECTRUM in found and not any(key.startswith(tuple(self._branches())) for key in found):
            found.update(self._start())
        return found

    def _load_from_state_dict(self, state_dict, prefix, *args):
        entries = {
            key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)
        }
        for key in entries:
            del state_dict[prefix + key]
        adapted = self.adapt_entries(entries)
        state_dict.update({prefix + key: value for key, value in adapted.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        key = prefix + GROUPS_KEY
        if key in destination:  # a quarter of the bytes, or half
            small = self.kernel_num <= 256
            destination[key] = destination[key].to(torch.uint8 if small else torch.int16)

    def _parameters_of(self, kernel: Tensor) -> Tensor:
        return to_spectrum(kernel)[None] / self._divisor

    def _ruled_groups(self) -> Tensor:
        return frequency_groups(*self._matrix, self.kernel_num)

    def _start(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the attentions of a layer that starts from a plain kernel."""
        for name, branch in self._branches().items():
            if self.init == 'plain':
                branch = copy.deepcopy(branch)
                branch.make_neutral()
            for key, value in branch.state_dict().items():
                yield f'{name}.{key}', value
