"""The attention branch and the contrasting-driven attention function (paper, Sec. 3.4).

An SE-style branch looks at the layer's input and gives every mixture m of the layer a signed weight for each of the
warehouse's n cells and for a zero cell that takes attention but adds nothing.
"""
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..dynamic_conv.branch import Norm, build_norm, check_batch, hidden_units, init_linear
from .initialization import Start, beta_of


def contrasting_attention(logits: Tensor, beta: Tensor, temperature: Tensor) -> Tensor:
    """CAF: alpha_ij = tau beta_ij + (1 - tau) z_ij / (sum_p |z_ip| + 1e-3), in float32 or better.

    Args:
        logits (Tensor): z, shape (B, m, n + 1).
        beta (Tensor): Start attention, shape (m, n + 1).
        temperature (Tensor): tau, a scalar.

    Returns:
        Tensor: alpha, float32 (float64 for float64 logits), shape (B, m, n + 1).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    normalised = logits / (logits.abs().sum(dim=-1, keepdim=True) + 1e-3)
    return torch.lerp(normalised, beta.to(logits).expand_as(logits), temperature.to(logits))


class KernelAttention(nn.Module):
    """Attention of a layer's m mixtures to the n cells of its warehouse.

    Args:
        in_channels: Channels of the layer's input.
        start: Start cells of the layer's mixtures.
        num_cells: n.
        reduction: Hidden units per input channel.
        norm: Normalisation of the hidden units; a batch norm as published (then ``fc1`` has no bias), ``'LN'``, ...
    """

    def __init__(self, in_channels: int, start: Start, num_cells: int, *, reduction: float = 1 / 16,
                 norm: Norm = 'BN1d'):
        super().__init__()
        hidden = hidden_units(in_channels, reduction)
        norm1 = build_norm(norm, hidden)
        self.fc1 = nn.Linear(in_channels, hidden, bias=not isinstance(norm1, _BatchNorm))
        self.norm1 = norm1
        self.relu = nn.ReLU(inplace=True)
        self._build_logits(hidden, start, num_cells)
        self.register_buffer('beta', beta_of(start, num_cells))                   # (m, n + 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)

    def _build_logits(self, hidden: int, start: Start, num_cells: int) -> None:
        self.fc2 = nn.Linear(hidden, len(start.cells) * (num_cells + 1))

    def logits(self, hidden: Tensor) -> Tensor:
        """z, shape (B, m, n + 1), from the hidden units, shape (B, hidden)."""
        return self.fc2(hidden).reshape(-1, *self.beta.shape)

    def forward(self, pooled: Tensor, temperature: Tensor) -> Tensor:
        """Weigh the cells.

        Args:
            pooled (Tensor): Global average of the layer's input, shape (B, C_in).
            temperature (Tensor): tau, a scalar.

        Returns:
            Tensor: alpha without the zero cell's column, shape (B, m, n).

        Raises:
            ValueError: One image per GPU in training with a batch norm.
        """
        hidden = self.fc1(pooled)
        check_batch(self.norm1, hidden, 'KernelWarehouse')
        hidden = self.relu(self.norm1(hidden))
        return contrasting_attention(self.logits(hidden), self.beta, temperature)[..., :-1]


class ReducedKernelAttention(KernelAttention):
    """Attention that reaches the cells of *other* layers through a small basis, as in the published R50 1/2x.

    Args:
        in_channels, start, num_cells, reduction, norm: As in :class:`KernelAttention`.
        nonlocal_basis_ratio: Basis size as a share of the cells that belong to other layers, at least 16.
    """

    def __init__(self, *args, nonlocal_basis_ratio: float, **kwargs):
        self.nonlocal_basis_ratio = nonlocal_basis_ratio
        super().__init__(*args, **kwargs)

    def _build_logits(self, hidden: int, start: Start, num_cells: int) -> None:
        others = num_cells - start.num_cells
        self.first_cell, self.num_local = start.first_cell, start.num_cells
        self.num_basis = hidden_units(others, self.nonlocal_basis_ratio)
        m = len(start.cells)
        self.fc2 = nn.Linear(hidden, m * (self.num_local + self.num_basis + 1), bias=False)
        self.fc3 = nn.Linear(self.num_basis, others, bias=False)
        self.basis_bias = nn.Parameter(torch.zeros(m * (num_cells + 1)))

    def logits(self, hidden: Tensor) -> Tensor:
        parts = self.fc2(hidden).reshape(len(hidden), len(self.beta), -1)          # (B, m, local + basis + 1)
        local, basis, zero = parts.split([self.num_local, self.num_basis, 1], dim=-1)
        others = self.fc3(basis)                                                   # (B, m, n - local)
        before, after = others[..., :self.first_cell], others[..., self.first_cell:]
        return torch.cat([before, local, after, zero], dim=-1) + self.basis_bias.view_as(self.beta)
