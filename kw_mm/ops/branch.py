"""What attention branches have in common: width, normalisation and first values."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import BatchSizeError
from ..validation import check_choice, check_positive

Norm = str | Callable[[int], nn.Module]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    'BN1d': nn.BatchNorm1d,
    'SyncBN': nn.SyncBatchNorm,
    'LN': nn.LayerNorm,
    'none': nn.Identity,
}
MIN_HIDDEN = 16


class ContrastingBranch(NamedTuple):
    """A KernelWarehouse branch of the published form, for a backend that may fuse it.

    alpha = tau beta + (1 - tau) z / (sum |z| + eps) with z = fc2(relu(norm(fc1(pooled)))).

    Args:
        fc1, norm, fc2: Its layers.
        beta (Tensor): Start attention, shape (m, columns); columns are n, or n + 1 with a zero
            cell.
        temperature (Tensor): tau, a scalar.
        num_cells: n.
        eps: What keeps the divisor above 0.
    """

    fc1: nn.Module
    norm: nn.Module
    fc2: nn.Module
    beta: Tensor
    temperature: Tensor
    num_cells: int
    eps: float


class AttentionBranch(nn.Module):
    """Base class of the modules that weigh cells or kernels for each image.

    By it, checks and counts know attention branches from the rest of a network.
    """

    one_value_per_channel = True  # of an image, where norms are; a batch of one has no statistics


def hidden_units(in_channels: int, reduction: float, least: int = MIN_HIDDEN) -> int:
    """Width of the branch: a share ``reduction`` of the input channels, at least ``least``.

    Raises:
        ValueError: A share that is not a finite positive number.
    """
    check_positive('reduction', reduction, 'the published models have 1/16')
    return max(int(in_channels * float(reduction)), least)


def build_norm(norm: Norm, channels: int) -> nn.Module:
    """Build the branch's normalisation from a name in ``NORMS`` or from any ``channels -> module``.

    Raises:
        ValueError: An unknown name.
    """
    if callable(norm):
        return norm(channels)
    check_choice('attention_norm', norm, NORMS)
    return NORMS[norm](channels)


def check_batch(norm: nn.Module, hidden: Tensor, method: str) -> None:
    """Check that a batch norm in training has more than one vector to take statistics of.

    Raises:
        BatchSizeError: It has one.
    """
    one_value_per_channel = isinstance(norm, _BatchNorm) and norm.training and len(hidden) == 1
    if one_value_per_channel and not isinstance(norm, nn.SyncBatchNorm):
        raise BatchSizeError(
            f'{method} attention normalises over the batch (BatchNorm1d), which one image per GPU '
            "cannot train: use 2 or more images per GPU, norm_eval=True, attention_norm='LN', or "
            "SyncBN over several GPUs (attention_norm='SyncBN')"
        )


def init_linear(linear: nn.Linear) -> None:
    """Kaiming normal, fan-out, zero bias: the published start of the attention's linear maps."""
    if linear.weight.numel():
        nn.init.kaiming_normal_(linear.weight, mode='fan_out', nonlinearity='relu')
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
