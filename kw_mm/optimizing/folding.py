"""Batch norms as part of the convolutions before them, for inference.

In inference a batch norm is y -> s y + t, channel by channel, with s = gamma / sqrt(var + eps) and
t = beta - s mean. Of a plain convolution s goes into the kernel's output rows and t into the bias.
So it does of a convolution that mixes kernels of its own (ODConv, DY-Conv, CondConv). A KW layer
shares its cells with others, so that it keeps s, and multiplies whichever is smaller, its mixed
kernels or its outputs.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..compared import CondConv2d, DYConv2d, ODConv2d
from ..errors import UserError
from ..warehouse.layers import KWConv1d, KWConv2d, KWConv3d

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
TORCH_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
KW_CONVS = (KWConv1d, KWConv2d, KWConv3d)
MIXED_CONVS = (CondConv2d, DYConv2d, ODConv2d)  # whose output is linear in `weight`
FOLDED_CONVS = (*TORCH_CONVS, *KW_CONVS, *MIXED_CONVS)
# Attributes of blocks, (convolution, norm), by the class whose forward calls one after the other.
PAIRS_OF_BLOCKS = {
    f'{package}.{block}': tuple((f'conv{i}', f'{norm}{i}') for i in range(1, number + 1))
    for package, norm in (
        ('mmdet.models.backbones.resnet', 'norm'),
        ('mmpretrain.models.backbones.resnet', 'norm'),
        ('torchvision.models.resnet', 'bn'),
    )
    for block, number in (('BasicBlock', 2), ('Bottleneck', 3), ('ResNet', 1))
}
CONV_MODULE = 'mmcv.cnn.bricks.conv_module.ConvModule'
# Mixins whose forward calls the next class's.
PASSING_ON = ('kw_mm.models.base.StaticBackbone',)
RETRAIN = (
    'a network whose batch norms are folded into its convolutions is for inference, got train(); '
    'build it again and load its checkpoint to train'
)


class Pair(NamedTuple):
    """Names of a convolution and of the norm that is applied to its output, and to nothing else."""

    conv: str
    norm: str


class FoldedNorm(nn.Module):
    """Stands where a batch norm was that is part of the convolution before it.

    Raises:
        UserError: Put into training mode, or given a batch norm's entries by a state dict.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The identity."""
        return x

    def train(self, mode: bool = True) -> 'FoldedNorm':
        if mode:
            raise UserError(RETRAIN)
        return super().train(mode)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if f'{prefix}running_var' in state_dict:
            raise UserError(
                f'weights must be loaded before batch norms are folded, got those of '
                f'{prefix[:-1]!r} afterwards; build the network again'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def fold_norms(module: nn.Module, pairs: Iterable[tuple[str, str]] = ()) -> list[Pair]:
    """Fold batch norms into the convolutions before them, in place.

    Args:
        module: Any network, which is for inference from then on.
        pairs: Names (convolution, norm) beyond those that :func:`find_pairs` finds.

    Returns:
        list: What was folded.

    Raises:
        UserError: A pair given that is none, or that cannot be folded; nothing is folded then.
    """
    given = [Pair(*pair) for pair in pairs]
    for pair in given:
        if reason := why_not(module, pair):
            raise UserError(f'pairs must be convolutions and their batch norms, got {reason}')
    found = list(dict.fromkeys([*find_pairs(module), *given]))
    for pair in found:
        conv, norm = (module.get_submodule(name) for name in pair)
        scale, shift = affine_of(norm)
        fold_affine(conv, scale, shift)
        parent, _, child = pair.norm.rpartition('.')
        setattr(module.get_submodule(parent), child, FoldedNorm().eval())
    return found


def find_pairs(module: nn.Module) -> list[Pair]:
    """Convolutions and batch norms of which it is known that one follows directly on the other.

    They are neighbours in a :class:`torch.nn.Sequential`, in mmcv's ``ConvModule``, or in the
    ResNets of mmpretrain, mmdet and torchvision and all that inherit their forward. Left out is
    what is used twice, hooked, reparametrised or of another kind.
    """
    found = [
        Pair(*(f'{name}.{child}' if name else child for child in pair))
        for name, parent in module.named_modules()
        for pair in _pairs_of(parent)
    ]
    uses = _uses(module)
    return [pair for pair in found if not why_not(module, pair, uses)]


def _pairs_of(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Children of which one is known to be applied to the other's output."""
    kind = _forward_of(type(parent))
    if kind is nn.Sequential:
        names = list(parent._modules)
        yield from zip(names, names[1:])
        return
    name = f'{kind.__module__}.{kind.__qualname__}'
    if name == CONV_MODULE and parent.with_norm:
        if parent.order.index('norm') == parent.order.index('conv') + 1:
            yield 'conv', parent.norm_name
    for conv, norm in PAIRS_OF_BLOCKS.get(name, ()):
        norm = getattr(parent, f'{norm}_name', norm)  # OpenMMLab's norm1 is a property
        if conv in parent._modules and norm in parent._modules:
            yield conv, norm


def _forward_of(kind: type) -> type:
    """The class of which objects of another have their forward."""
    return next(
        base
        for base in kind.__mro__
        if 'forward' in vars(base) and f'{base.__module__}.{base.__qualname__}' not in PASSING_ON
    )


def _uses(module: nn.Module) -> dict[int, int]:
    """How often each module stands in a network."""
    uses: dict[int, int] = {}
    for _, part in module.named_modules(remove_duplicate=False):
        uses[id(part)] = uses.get(id(part), 0) + 1
    return uses


def why_not(module: nn.Module, pair: Pair, uses: dict[int, int] | None = None) -> str:
    """Why a norm cannot be folded into a convolution; empty where it can.

    Args:
        module: The network.
        pair: Names in it.
        uses: How often each module stands in the network.
    """
    parts = dict(module.named_modules())
    missing = [name for name in pair if name not in parts]
    if missing:
        return f'{missing[0]!r}, which is not in the network'
    conv, norm = (parts[name] for name in pair)
    uses = uses or _uses(module)
    if type(conv) not in FOLDED_CONVS or (type(conv) not in KW_CONVS and not _has_weight(conv)):
        return f'{pair.conv!r}, a {type(conv).__name__} that nothing can be folded into'
    if type(norm) not in BATCH_NORMS or norm.running_var is None:
        return f'{pair.norm!r}, a {type(norm).__name__} without running statistics'
    if norm.num_features != conv.out_channels:
        return f'{pair.norm!r} of {norm.num_features} channels after {conv.out_channels}'
    if uses[id(conv)] > 1 or uses[id(norm)] > 1:
        return f'{pair.conv!r} and {pair.norm!r}, one of which is used more than once'
    if conv._forward_hooks or norm._forward_hooks or norm._forward_pre_hooks:
        return f'{pair.conv!r} and {pair.norm!r}, between which a hook looks'
    return ''


def _has_weight(conv: nn.Module) -> bool:
    """Not so where ``weight`` is computed from others, as by spectral norm."""
    return isinstance(conv._parameters.get('weight'), nn.Parameter)


def affine_of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """s and t of a batch norm in inference, shape (C, ), in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -scale * norm.running_mean.double()
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


@torch.no_grad()
def fold_affine(conv: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Let a convolution give s y + t where it gave y.

    Args:
        conv: One of ``FOLDED_CONVS``.
        scale, shift (Tensor): s and t, shape (C_out, ).
    """
    if isinstance(conv, KW_CONVS):
        conv.scale_and_shift(scale, shift)
        return
    weight = conv.weight  # (C_out, ...), or (K, C_out, ...) of several kernels
    place = 1 if isinstance(conv, MIXED_CONVS) else 0
    factors = scale.view(*[1] * place, -1, *[1] * (weight.dim() - place - 1))
    weight.data = (weight.double() * factors).to(weight)
    moved = shift if conv.bias is None else shift + scale * conv.bias.double()
    conv.bias = nn.Parameter(moved.to(weight), requires_grad=False)
