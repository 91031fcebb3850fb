"""The attention branch (paper, Sec. 3.4).

An SE-style branch looks at the layer's input and gives every mixture m of the layer a signed weight
for each of the warehouse's n cells and for a zero cell that takes attention but adds nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..ops import backend_for
from ..ops.branch import (
    AttentionBranch,
    ContrastingBranch,
    Norm,
    build_norm,
    check_batch,
    hidden_units,
    init_linear,
)
from ..validation import check_choice
from .attention_functions import ATTENTION_FUNCTIONS, EPS, weigh_cells
from .initialization import Start, beta_of


class KernelAttention(AttentionBranch):
    """Attention of a layer's m mixtures to the n cells of its warehouse.

    Shapes are those with a zero cell; without, n + 1 is n.

    Args:
        in_channels: Channels of the layer's input.
        start: Start cells of the layer's mixtures.
        num_cells: n.
        reduction: Hidden units per input channel.
        norm: Normalisation of the hidden units; a batch norm as published (then ``fc1`` has no
            bias), ``'LN'``, ...
        function: What turns logits into weights, a name in :data:`ATTENTION_FUNCTIONS`; published
            'caf'.
        zero_cell: Whether a zero cell takes attention beside the n cells, as published.

    Raises:
        ValueError: An unknown normalisation or attention function.
    """

    beta: Tensor

    def __init__(
        self,
        in_channels: int,
        start: Start,
        num_cells: int,
        *,
        reduction: float = 1 / 16,
        norm: Norm = 'BN1d',
        function: str = 'caf',
        zero_cell: bool = True,
    ):
        super().__init__()
        check_choice('attention_function', function, ATTENTION_FUNCTIONS)
        self.function, self.num_cells, self.zero_cell = function, num_cells, zero_cell
        self.start = start
        hidden = hidden_units(in_channels, reduction)
        norm1 = build_norm(norm, hidden)
        self.fc1 = nn.Linear(in_channels, hidden, bias=not isinstance(norm1, _BatchNorm))
        self.norm1 = norm1
        self.relu = nn.ReLU(inplace=True)
        self.register_buffer('beta', beta_of(start, num_cells, zero_cell))  # (m, n + 1)
        self._build_logits(hidden, start)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_linear(module)

    @property
    def is_contrasting(self) -> bool:
        """Whether it is of the form that a backend may fuse."""
        return self.function == 'caf' and type(self).logits is KernelAttention.logits

    def _as_branch(self, temperature: Tensor) -> ContrastingBranch:
        return ContrastingBranch(
            self.fc1, self.norm1, self.fc2, self.beta, temperature, self.num_cells, EPS
        )

    def _build_logits(self, hidden: int, start: Start) -> None:
        self.fc2 = nn.Linear(hidden, self.beta.numel())

    def logits(self, hidden: Tensor) -> Tensor:
        """z, shape (B, m, n + 1), from the hidden units, shape (B, hidden)."""
        z: Tensor = self.fc2(hidden)
        return z.reshape(-1, *self.beta.shape)

    def _constant_logits(self, logits: Tensor) -> dict[str, Tensor]:
        """Entries beside fc2's weight with which the logits are constants."""
        return {'fc2.bias': logits.flatten()}

    def constant_entries(self, logits: Tensor) -> dict[str, Tensor]:
        """Entries of the state dict with which attention is constant, at every temperature.

        Args:
            logits (Tensor): z, shape (m, n + 1).

        Returns:
            dict: All entries by name; those that the constants leave open are the module's own.
        """
        alpha = weigh_cells(logits, logits, logits.new_zeros(()), self.function)
        changed = {
            'fc2.weight': torch.zeros_like(self.fc2.weight),
            'beta': alpha,
            **self._constant_logits(logits),
        }
        return {
            key: changed[key].to(value) if key in changed else value
            for key, value in self.state_dict().items()
        }

    def constant(self, temperature: Tensor) -> Tensor | None:
        """alpha without the zero cell's column, shape (m, n), if it is the same for every image.

        Args:
            temperature (Tensor): tau, a scalar.

        Returns:
            Tensor, optional: None where alpha depends on the image.
        """
        alpha = self.beta
        if float(temperature) != 1:
            if bool(self.fc2.weight.any()):
                return None
            hidden = self.fc2.weight.new_zeros(1, self.fc2.in_features)
            alpha = weigh_cells(self.logits(hidden), self.beta, temperature, self.function)[0]
        return alpha[:, : self.num_cells]

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
        check_batch(self.norm1, pooled, 'KernelWarehouse')
        if self.is_contrasting:
            fused = backend_for(pooled).attend(pooled, self._as_branch(temperature))
            if fused is not None:
                return fused
        hidden = self.relu(self.norm1(self.fc1(pooled)))
        alpha = weigh_cells(self.logits(hidden), self.beta, temperature, self.function)
        return alpha[..., : self.num_cells]


class ReducedKernelAttention(KernelAttention):
    """Attention that reaches the cells of *other* layers through a small basis.

    As in the published R50 1/2x.

    Args:
        in_channels, start, num_cells: As in :class:`KernelAttention`.
        **options: ``reduction``, ``norm``, ``function`` and ``zero_cell``, likewise.
        nonlocal_basis_ratio: Basis size as a share of the cells that belong to other layers, at
            least 16.
    """

    def __init__(
        self,
        in_channels: int,
        start: Start,
        num_cells: int,
        *,
        nonlocal_basis_ratio: float,
        **options: Any,
    ):
        self.nonlocal_basis_ratio = nonlocal_basis_ratio
        super().__init__(in_channels, start, num_cells, **options)

    def _build_logits(self, hidden: int, start: Start) -> None:
        m, columns = self.beta.shape[0], self.beta.shape[1]
        others = self.num_cells - start.num_cells
        self.first_cell = start.first_cell
        basis = hidden_units(others, self.nonlocal_basis_ratio)
        self.parts = [start.num_cells, basis, columns - self.num_cells]
        self.fc2 = nn.Linear(hidden, m * sum(self.parts), bias=False)
        self.fc3 = nn.Linear(self.parts[1], others, bias=False)
        self.basis_bias = nn.Parameter(torch.zeros(m * columns))

    def _constant_logits(self, logits: Tensor) -> dict[str, Tensor]:
        return {'basis_bias': logits.flatten()}

    def logits(self, hidden: Tensor) -> Tensor:
        # (B, m, local + basis + 1)
        parts: Tensor = self.fc2(hidden).reshape(hidden.shape[0], len(self.beta), -1)
        local, basis, zero = torch.split(parts, self.parts, dim=-1)
        others: Tensor = self.fc3(basis)  # (B, m, n - local)
        before, after = others[..., : self.first_cell], others[..., self.first_cell :]
        return torch.cat([before, local, after, zero], dim=-1) + self.basis_bias.view_as(self.beta)
