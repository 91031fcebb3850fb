"""Layers whose kernel is mixed, for every image anew, from the cells of a warehouse."""

from typing import Any

import torch
from torch import Tensor, nn

from ..ops import (
    Geometry,
    Geometry3d,
    HasGeometry,
    Partition,
    SharedCells,
    backend_for,
    mixed_conv2d,
    mixed_conv3d,
    mixed_kernels,
    mixed_linear,
)
from ..ops.conv3d import Size3d
from ..ops.geometry import Size, single
from ..ops.one_node import one_node
from ..ops.pool import average
from ..ops.precision import averaging_dtype, full_precision
from .initialization import beta_of, why_not_plain
from .kernel_attention import KernelAttention
from .warehouses import Warehouse, Warehouses, list_cells


class KWLayer(nn.Module):
    """What a KW convolution and a KW linear layer have in common.

    Args:
        partition: How the layer's kernel is cut into cells.
        attention: The branch that weighs the cells.
        warehouses: All warehouses of the network. They are held without being registered here,
            since they belong to the network; the temperature is read from them at every forward.
        warehouse_name: The one this layer draws on.
        bias (Parameter, optional): Shape (C_out, ).

    Attributes:
        output_scale (Tensor, optional): A factor for each output channel of the mixed kernels,
            shape (C_out, ), which :meth:`scale_and_shift` has set.
    """

    attention: KernelAttention
    bias: nn.Parameter | None
    output_scale: Tensor | None
    in_channels: int
    out_channels: int

    def __init__(
        self,
        partition: Partition,
        attention: KernelAttention,
        warehouses: Warehouses,
        warehouse_name: str,
        bias: nn.Parameter | None = None,
    ):
        super().__init__()
        self.partition = partition
        self.attention = attention
        self.register_parameter('bias', bias)
        self.register_buffer('output_scale', None)
        self.warehouse_name = warehouse_name
        self.uses_frozen_cells = False
        self._shared = (warehouses,)  # a tuple, so that nn.Module does not adopt the warehouses

    @property
    def held_elsewhere(self) -> tuple[Warehouses]:
        """What it uses that belongs to the network."""
        return self._shared

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse this layer draws on."""
        warehouse: Warehouse = self._shared[0][self.warehouse_name]  # type: ignore[assignment]
        return warehouse

    @property
    def shared_cells(self) -> SharedCells:
        """What this layer mixes, and where its gradients are summed.

        Raises:
            RuntimeError: Cells that FSDP has sharded by themselves.
        """
        shared = self.warehouse.shared(self.uses_frozen_cells)
        if shared.values.dim() != 3:
            raise RuntimeError(
                f'FSDP has sharded warehouse {self.warehouse_name!r} apart from the layers that '
                "share it; use auto_wrap_policy=dict(type='wrap_outside_warehouses')"
            )
        return shared

    @property
    def cells(self) -> Tensor:
        """Cells this layer mixes, shape (n, cell_out, cell_in cell_h cell_w)."""
        return self.shared_cells.values

    @property
    def start_cells(self) -> Tensor:
        """Start cell of each mixture, shape (m, ), where there is one each; n is the zero cell."""
        return beta_of(self.attention.start, self.warehouse.num_cells).argmax(dim=-1)

    @property
    def why_not_plain(self) -> str:
        """Why a plain kernel cannot be placed in the start cells; empty where it can."""
        return why_not_plain(self.attention.start, self.warehouse.num_cells)

    @property
    @torch.no_grad()
    def plain_kernel(self) -> Tensor | None:
        """The kernel, shape (C_out, C_in / groups, kh, kw), where it is the same for every image.

        That is so at temperature 1 and before the first step from plain weights; else it is None.
        """
        alpha = self.attention.constant(self._shared[0].temperature)
        if alpha is None:
            return None
        cells = list_cells(self.cells, self.warehouse.cell_size)
        mixtures = alpha.to(cells) @ cells.flatten(1)
        return self._scaled(self.partition.to_kernel(mixtures.reshape(-1, *cells.shape[1:])))

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of mixing one image's kernel: m n times the size of a cell."""
        return self.partition.num_mixtures * self.cells.numel()

    def init_weights(self) -> None:
        """Nothing to do: KW layers are initialised when built, and OpenMMLab must leave them so."""

    def weigh(self, pooled: Tensor) -> Tensor:
        """Attention to the cells.

        Args:
            pooled (Tensor): Global average of the layer's input, shape (B, C_in).

        Returns:
            Tensor: alpha without the zero cell's column, shape (B, m, n).
        """
        with full_precision(pooled):
            alpha: Tensor = self.attention(pooled, self._shared[0].temperature)
            return alpha

    def assemble(self, alpha: Tensor) -> Tensor:
        """Mix one kernel per image.

        Args:
            alpha (Tensor): Attention, shape (B, m, n).

        Returns:
            Tensor: Shape (B, C_out, C_in / groups, kh, kw).
        """
        return self._scaled(mixed_kernels(alpha, self.shared_cells, self.partition))

    def _scaled(self, kernels: Tensor) -> Tensor:
        """Kernels of shape (..., C_out, C_in / groups, kh, kw)."""
        scale = self.output_scale
        return kernels if scale is None else kernels * scale.to(kernels).view(-1, 1, 1, 1)

    @torch.no_grad()
    def scale_and_shift(self, scale: Tensor, shift: Tensor) -> None:
        """Take over what follows the layer in inference: y -> scale y + shift, channel by channel.

        The cells are shared with other layers, so the factors stay with this one. It is then a
        layer for inference.

        Args:
            scale, shift (Tensor): Shape (C_out, ).
        """
        old, bias = self.output_scale, self.bias
        like = next(self.attention.parameters())
        self.output_scale = (scale if old is None else scale * old.to(scale)).to(like)
        moved = shift if bias is None else shift + scale * bias.to(scale)
        self.bias = nn.Parameter(moved.to(like), requires_grad=False)

    @torch.no_grad()
    def place_kernel(self, kernel: Tensor) -> None:
        """Put a plain kernel into the start cells: at temperature 1 this layer is the plain one.

        The rest of the attention branch stays as it is; see :mod:`kw_mm.warehouse.plain_start` for
        layers that are the plain ones at every temperature.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kh, kw), or (C_out, C_in) for a linear
                layer.

        Raises:
            ValueError: Another shape, or a layer whose mixtures do not start from one cell each
                (budget < 1, or another start than 'one_to_one').
        """
        shape = self.partition.kernel_shape
        if kernel.numel() != torch.Size(shape).numel() or len(kernel) != self.out_channels:
            raise ValueError(
                f'the kernel must have the shape {shape} of the layer, got {tuple(kernel.shape)}'
            )
        if self.why_not_plain:
            raise ValueError(f'a plain kernel cannot be placed in this layer: {self.why_not_plain}')
        index = self.start_cells.to(self.cells.device)
        self.warehouse.write(index, self.partition.to_cells(kernel.reshape(shape)))
        attention = self.attention
        attention.beta.copy_(beta_of(attention.start, attention.num_cells, attention.zero_cell))

    def extra_repr(self) -> str:
        mixtures, cells = self.partition.num_mixtures, self.warehouse.num_cells
        return (
            f'{self.in_channels}, {self.out_channels}, warehouse={self.warehouse_name!r}, '
            f'mixtures={mixtures}, cells={cells}'
        )


class _MixedConv2d(KWLayer):
    """What layers have in common that are computed as two-dimensional convolutions."""

    geometry: Geometry

    def convolve(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        pooled, x = backend_for(x).pool(x)
        warehouses = self._shared[0]
        return mixed_conv2d(
            x,
            self.weigh(pooled),
            self.shared_cells,
            self.partition,
            self.bias,
            self.geometry,
            recompute=warehouses.recompute_kernels,
            keep_format=warehouses.keep_format,
            scale=self.output_scale,
        )


class KWConv2d(HasGeometry, _MixedConv2d):
    """Convolution with kernels from a warehouse; otherwise :class:`torch.nn.Conv2d`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: As in
            :class:`torch.nn.Conv2d`.
        **options: ``partition``, ``attention``, ``warehouses``, ``warehouse_name`` and ``bias``, as
            in :class:`KWLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        **options: Any,
    ):
        super().__init__(**options)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.geometry = Geometry.of(kernel_size, stride, padding, dilation, groups)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        return self.convolve(x)


class KWConv1d(_MixedConv2d):
    """Convolution over sequences; otherwise :class:`torch.nn.Conv1d`.

    It is computed as a two-dimensional one of height 1.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: As in
            :class:`torch.nn.Conv1d`.
        **options: As in :class:`KWConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        **options: Any,
    ):
        super().__init__(**options)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = map(single, (kernel_size, stride, dilation))
        self.padding = padding if isinstance(padding, str) else single(padding)
        (k,), (s,), (d,) = self.kernel_size, self.stride, self.dilation
        sides = padding if isinstance(padding, str) else (0, *single(padding))
        self.geometry = Geometry.of((1, k), (1, s), sides, (1, d), groups)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, L) -> (B, C_out, L_out)."""
        return self.convolve(x.unsqueeze(2)).squeeze(2)


class KWConv3d(HasGeometry, KWLayer):
    """Convolution over volumes; otherwise :class:`torch.nn.Conv3d`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: As in
            :class:`torch.nn.Conv3d`.
        **options: As in :class:`KWConv2d`; the partition takes a kernel's depth and height as one
            dimension.
    """

    geometry: Geometry3d  # type: ignore[assignment]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size3d,
        stride: Size3d = 1,
        padding: Size3d | str = 0,
        dilation: Size3d = 1,
        groups: int = 1,
        **options: Any,
    ):
        super().__init__(**options)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.geometry = Geometry3d.of(kernel_size, stride, padding, dilation, groups)

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, D, H, W) -> (B, C_out, D_out, H_out, W_out)."""
        pooled = average(x.flatten(3))
        return mixed_conv3d(
            x,
            self.weigh(pooled),
            self.shared_cells,
            self.partition,
            self.bias,
            self.geometry,
            recompute=self._shared[0].recompute_kernels,
            scale=self.output_scale,
        )


class KWLinear(KWLayer):
    """Linear layer with a weight matrix from a warehouse; otherwise :class:`torch.nn.Linear`.

    Args:
        in_features, out_features: As in :class:`torch.nn.Linear`.
        **options: As in :class:`KWConv2d`.
    """

    def __init__(self, in_features: int, out_features: int, **options: Any):
        super().__init__(**options)
        self.in_features, self.out_features = in_features, out_features
        self.in_channels, self.out_channels = in_features, out_features

    @one_node
    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., C_in) -> (B, ..., C_out); attention sees the mean over what is between."""
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        alpha = self.weigh(tokens.mean(dim=1, dtype=averaging_dtype(x)))
        return mixed_linear(
            x,
            alpha,
            self.shared_cells,
            self.partition,
            self.bias,
            recompute=self._shared[0].recompute_kernels,
            scale=self.output_scale,
        )
