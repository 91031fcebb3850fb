"""Layers whose kernel is mixed, for every image anew, from the cells of a warehouse."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..ops import conv2d_per_image, linear_per_image
from ..ops.mix import mix_cells
from ..ops.partition import Partition
from ..ops.pool import pool_and_pass
from ..ops.precision import autocast_dtype, averaging_dtype, full_precision
from ..ops.recompute import kernels_recomputed
from ..ops.reference import Size, on_reference_path
from ..ops.tracing import is_traced
from .initialization import why_not_plain
from .kernel_attention import KernelAttention
from .warehouses import Warehouse, Warehouses


class KWLayer(nn.Module):
    """What a KW convolution and a KW linear layer have in common.

    Args:
        partition: How the layer's kernel is cut into cells.
        attention: The branch that weighs the cells.
        warehouses: All warehouses of the network. They are held without being registered here,
            since they belong to the network; the temperature is read from them at every forward.
        warehouse_name: The one this layer draws on.
        bias (Parameter, optional): Shape (C_out, ).
    """

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
        self.warehouse_name = warehouse_name
        self.uses_frozen_cells = False
        self._shared = (warehouses,)  # a tuple, so that nn.Module does not adopt the warehouses

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse this layer draws on."""
        return self._shared[0][self.warehouse_name]

    @property
    def cells(self) -> Tensor:
        """Cells this layer mixes, shape (cell_out, n, cell_in cell_h cell_w).

        Raises:
            RuntimeError: Cells that FSDP has sharded by themselves.
        """
        cells = self.warehouse.frozen_cells if self.uses_frozen_cells else self.warehouse.cells
        if cells.dim() != 3:
            raise RuntimeError(
                f'FSDP has sharded warehouse {self.warehouse_name!r} apart from the layers that share it; '
                "use auto_wrap_policy=dict(type='wrap_outside_warehouses')"
            )
        return cells

    @property
    def start_cells(self) -> Tensor:
        """Start cell of each mixture, shape (m, ), where there is one each; n stands for the zero cell."""
        return self.attention.beta.argmax(dim=-1)

    @property
    def why_not_plain(self) -> str:
        """Why a plain kernel cannot be placed in the start cells, e.g. with a budget below 1; empty where it can."""
        return why_not_plain(self.attention.beta, self.warehouse.num_cells)

    @property
    def assembly_macs(self) -> int:
        """Multiply-adds of mixing one image's kernel: m n times the size of a cell."""
        return self.partition.num_mixtures * self.cells.numel()

    def init_weights(self) -> None:
        """Nothing to do: KW layers are initialised when they are built, and OpenMMLab must leave them so."""

    def weigh(self, pooled: Tensor) -> Tensor:
        """Attention to the cells, shape (B, m, n), from the input's global average, shape (B, C_in)."""
        with full_precision(pooled):
            return self.attention(pooled, self._shared[0].temperature)

    def assemble(self, alpha: Tensor, transient: bool = False) -> Tensor:
        """Mix one kernel per image, shape (B, C_out, C_in / groups, kh, kw), from the attention, shape (B, m, n).

        A transient one is done with before another layer mixes its own.
        """
        if on_reference_path():
            return self._reference_kernels(alpha)
        mixtures = mix_cells(
            alpha, self.cells, self.warehouse.gradients, transient
        )  # (cell_out, B m, cell_in)
        return self.partition.assemble(mixtures)

    def _use_kernels(self, alpha: Tensor, x: Tensor, use: Callable[[Tensor], Tensor]) -> Tensor:
        kernels = self.assemble(alpha, transient=True)
        if autocast_dtype(x.device.type) is None:
            kernels = kernels.to(x.dtype)  # of cells stored in lower precision
        if not (self._shared[0].recompute_kernels and kernels.requires_grad) or is_traced():
            return use(kernels)
        weights, dtype = alpha.detach(), kernels.dtype
        with kernels_recomputed(kernels, lambda: self.assemble(weights).to(dtype)):
            return use(kernels)

    def _reference_kernels(self, alpha: Tensor) -> Tensor:
        cells = self.cells.transpose(0, 1)  # (n, cell_out, cell_in cell_h cell_w)
        mixtures = alpha.to(cells.dtype).flatten(0, 1) @ cells.flatten(1)
        cell = (*self.partition.cell_shape, *self.partition.cell_size)
        return self.partition.to_kernel(mixtures.reshape(*alpha.shape[:2], *cell))

    def place_kernel(self, kernel: Tensor) -> None:
        """Put a plain kernel into the start cells: at temperature 1 this layer then equals the plain one.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kh, kw), or (C_out, C_in) for a linear
                layer.

        Raises:
            ValueError: Another shape, or a layer whose mixtures do not start from one cell each
                (budget < 1, or another start than 'one_to_one').
        """
        if (
            kernel.numel() != torch.Size(self.partition.kernel_shape).numel()
            or len(kernel) != self.out_channels
        ):
            raise ValueError(
                f'a kernel of shape {tuple(kernel.shape)} does not fit a layer of '
                f'shape {self.partition.kernel_shape}'
            )
        if self.why_not_plain:
            raise ValueError(f'a plain kernel cannot be placed in this layer: {self.why_not_plain}')
        values = self.partition.to_cells(kernel.reshape(self.partition.kernel_shape))
        self.warehouse.write(self.start_cells, values)

    def extra_repr(self) -> str:
        mixtures, cells = self.partition.num_mixtures, self.warehouse.num_cells
        return (
            f'{self.in_channels}, {self.out_channels}, warehouse={self.warehouse_name!r}, '
            f'mixtures={mixtures}, cells={cells}'
        )


class KWConv2d(KWLayer):
    """Convolution with kernels from a warehouse; otherwise :class:`torch.nn.Conv2d`, which it replaces.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: As in
            :class:`torch.nn.Conv2d`.
        **kwargs: As in :class:`KWLayer`.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = (
            _pair(kernel_size),
            _pair(stride),
            _pair(dilation),
        )
        self.padding = padding if isinstance(padding, str) else _pair(padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H_out, W_out)."""
        pooled, x = pool_and_pass(x)
        return self._use_kernels(self.weigh(pooled), x, partial(self._convolve, x))

    def _convolve(self, x: Tensor, kernels: Tensor) -> Tensor:
        return conv2d_per_image(
            x,
            kernels,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            keep_format=self._shared[0].keep_format,
        )


class KWLinear(KWLayer):
    """Linear layer with a weight matrix from a warehouse; otherwise :class:`torch.nn.Linear`, which it replaces.

    Args:
        in_features, out_features: As in :class:`torch.nn.Linear`.
        **kwargs: As in :class:`KWLayer`.
    """

    def __init__(self, in_features: int, out_features: int, **kwargs):
        super().__init__(**kwargs)
        self.in_features, self.out_features = in_features, out_features

    @property
    def in_channels(self) -> int:
        return self.in_features

    @property
    def out_channels(self) -> int:
        return self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., C_in) -> (B, ..., C_out); the attention sees the mean over the dimensions between."""
        alpha = self.weigh(
            x.reshape(x.shape[0], -1, x.shape[-1]).mean(dim=1, dtype=averaging_dtype(x))
        )
        return self._use_kernels(
            alpha, x, lambda weights: linear_per_image(x, weights.flatten(2), self.bias)
        )
