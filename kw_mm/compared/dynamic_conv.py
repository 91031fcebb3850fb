"""What the compared dynamic convolutions share: geometry, mixing of K kernels, the temperature."""

import torch
from torch import Tensor, nn

from ..ops import Geometry, HasGeometry, convolve
from ..ops.geometry import Size
from ..validation import check_count

# What layers that can begin as exactly the plain ones take as ``init``.
CONV_STARTS = ('plain', 'published')


class SoftmaxTemperature:
    """Mixin for a layer whose attention logits are divided by a temperature T > 0.

    Attributes:
        temperature (Tensor): T, a scalar buffer, so that it is saved and moves with the model.
    """

    def _add_temperature(self) -> None:
        self.register_buffer('temperature', torch.ones(()))

    def set_temperature(self, value: float) -> None:
        """Set T in place.

        Raises:
            ValueError: A value that is not positive.
        """
        if not value > 0:
            raise ValueError(
                f'temperature={value} of {type(self).__name__} is not positive; the published runs '
                'go from 30 to 1 (AttentionTemperatureHook with begin=30, end=1)'
            )
        self.temperature.fill_(value)


class DynamicConv2d(HasGeometry, nn.Module):
    """A convolution whose kernels depend on the image; otherwise :class:`torch.nn.Conv2d`.

    It can take the place of ``Conv2d`` in mmcv's ``ConvModule`` and in any ``conv_cfg``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.

    Attributes:
        weight (Parameter): Shape (K, C_out, C_in / groups, kh, kw).
        bias (Parameter, optional): Shared by all kernels, shape (C_out, ).

    Raises:
        ValueError: Channels that the groups do not divide.
    """

    transposed = False
    output_padding = (0, 0)

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
        kernels: tuple[int, ...] = (),
    ):
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f'groups={groups} must divide the {in_channels} input and {out_channels} output '
                'channels; 1 always does'
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.geometry = Geometry.of(kernel_size, stride, padding, dilation, groups)
        self.weight = nn.Parameter(
            torch.empty(*kernels, out_channels, in_channels // groups, *self.kernel_size)
        )
        for kernel in self.weight.detach().view(-1, *self.weight.shape[-4:]):
            nn.init.kaiming_normal_(kernel, mode='fan_out', nonlinearity='relu')
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def init_weights(self) -> None:
        """Nothing to do: layers are initialised when built, and OpenMMLab must leave them so."""

    def plain_entries(self, kernel: Tensor) -> dict[str, Tensor]:
        """Entries of the state dict with which this is a plain convolution, whatever the image.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kh, kw).

        Returns:
            dict: Those that differ from the module's own, at any temperature.
        """
        raise NotImplementedError

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve image b with kernel b, shape (B, C_out, C_in / groups, kh, kw)."""
        return convolve(x, kernels, bias, self.geometry)

    def extra_repr(self) -> str:
        text = f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}'
        text += f', stride={self.stride}'
        text += f', groups={self.groups}' if self.groups > 1 else ''
        return f'{text}, kernels={len(self.weight)}' if self.weight.dim() == 5 else text


class MixedConv2d(DynamicConv2d):
    """Base of convolutions that mix K static kernels: W = sum_k alpha_k W_k.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As in
            :class:`torch.nn.Conv2d`.
        num_kernels: K.

    Raises:
        ValueError: K is not a positive integer.
    """

    def __init__(self, *args, num_kernels: int, **kwargs):
        check_num_kernels(num_kernels)
        super().__init__(*args, **kwargs, kernels=(num_kernels,))

    def _apply(self, fn, *args, **kwargs):
        # `.to(memory_format=torch.channels_last)` refuses 5-D tensors; K kernels do not need it
        def without_memory_format(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten(1)).view(tensor.shape) if tensor.dim() == 5 else fn(tensor)

        return super()._apply(without_memory_format, *args, **kwargs)

    @property
    def num_kernels(self) -> int:
        """K."""
        return len(self.weight)

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of mixing one image's kernel: K times its size."""
        return self.weight.numel()

    def mix(self, attention: Tensor) -> Tensor:
        """alpha, shape (B, K) -> one kernel per image, shape (B, C_out, C_in / groups, kh, kw)."""
        mixed = attention.to(self.weight.dtype) @ self.weight.flatten(1)
        return mixed.view(-1, *self.weight.shape[1:])


def check_num_kernels(num_kernels: int) -> None:
    """Raises ValueError if it is not a positive integer."""
    check_count('num_kernels', num_kernels, 'published are 1, 4 and 8')
