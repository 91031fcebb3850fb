"""What network a state dict looks like, in words for error messages."""
import re
from typing import Any, Dict, Mapping, Optional, Tuple

from torch import Tensor

from .odconv import THEIR_NORM

BASIC = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
BOTTLENECK = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
KINDS = dict(channel_fc='ODConv2d', fc2='DYConv2d')     # by a layer of the attention branch
MOBILENET_STEMS = ('features.0.1.weight', 'conv1.bn.weight', 'conv_stem.weight')
LAYOUTS = dict(kw_mm='kw_mm', published='published KernelWarehouse', odconv='published ODConv', static='plain static')


def layout_of(keys) -> str:
    """'kw_mm', 'published' (KernelWarehouse), 'odconv' (published ODConv) or 'static'."""
    keys = list(keys)
    if any(key.startswith('warehouse_manager.weights.') for key in keys):
        return 'published'
    if any(THEIR_NORM in key for key in keys):
        return 'odconv'
    return 'kw_mm' if any(key.startswith('warehouses.') or '.attention.' in key for key in keys) else 'static'


def identify(entries: Mapping[str, Tensor]) -> Optional[Dict[str, Any]]:
    """The backbone's config without its budget, e.g. ``dict(type='KWResNet', depth=50)``; None if it is none we know."""
    conv = dynamic_conv(entries)
    kind, options = ('Dynamic', dict(conv=conv)) if conv else ('KW', {})
    stem = next((entries[key] for key in MOBILENET_STEMS if key in entries), None)
    if stem is not None:
        return dict(type=f'{kind}MobileNetV2', widen_factor=len(stem) / 32, **options)
    blocks, bottleneck = _resnet_blocks(entries)
    depth = (BOTTLENECK if bottleneck else BASIC).get(blocks)
    return dict(type=f'{kind}ResNet', depth=depth, **options) if depth else None


def dynamic_conv(entries: Mapping[str, Tensor]) -> Optional[Dict[str, Any]]:
    """Config of the compared dynamic convolution that a network has, e.g. ``dict(type='ODConv2d', num_kernels=4)``."""
    for key, weight in entries.items():
        branch = key[:-len('weight')] + 'attention.'
        if not key.endswith('.weight') or weight.dim() not in (4, 5):
            continue
        if f'{branch}fc_phi.weight' in entries:
            return dict(type='DCDConv2d')
        if weight.dim() == 5:
            kind = next((name for mark, name in KINDS.items() if f'{branch}{mark}.weight' in entries), 'CondConv2d')
            return dict(type=kind, num_kernels=len(weight))
    return None


def architecture(entries: Mapping[str, Tensor]) -> str:
    """A network's name, e.g. 'ResNet-50' or 'MobileNetV2 0.5'; its first keys where it is none we know."""
    known = identify(entries)
    if known and 'widen_factor' in known:
        return f'MobileNetV2 {known["widen_factor"]:.4g}'
    blocks, _ = _resnet_blocks(entries)
    if not blocks:
        return f'an unknown network ({", ".join(list(entries)[:3]) or "empty"}, ...)'
    name = f'ResNet-{known["depth"]}' if known else f'a ResNet with {"-".join(map(str, blocks))} blocks'
    stem = entries.get('conv1.weight')
    return name if stem is None or len(stem) == 64 else f'{name} with a stem of {len(stem)} channels'


def looks_like(entries: Mapping[str, Tensor], reference: Optional[Tuple[float, Mapping[str, Tensor]]] = None) -> str:
    """A state dict in words.

    Args:
        entries: Tensors by name, in any layout.
        reference: (budget, state dict) of a KW network of the same architecture, to tell the budget by.
    """
    words = f'{architecture(entries)} in the {LAYOUTS[layout_of(entries)]} layout'
    conv = dynamic_conv(entries)
    if conv:
        kernels = f' of {conv["num_kernels"]} kernels' if 'num_kernels' in conv else ''
        return f'{words} with {conv["type"]}{kernels}'
    cells = _cell_values(entries)
    if not cells:
        return words
    if reference and _cell_values(reference[1]) and architecture(reference[1]) == architecture(entries):
        return f'{words} with budget {reference[0] * cells / _cell_values(reference[1]):.4g}'
    return f'{words} with {cells / 1e6:.2f} M cell values'


def _cell_values(entries: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for key, value in entries.items()
               if key.startswith('warehouse_manager.weights.') or (key.startswith('warehouses.') and key.endswith('.cells')))


def _resnet_blocks(entries: Mapping[str, Tensor]) -> Tuple[Tuple[int, ...], bool]:
    """(blocks of each stage, whether they are bottlenecks)."""
    found = [match for match in (re.match(r'layer(\d)\.(\d+)\.(conv\d)\.', key) for key in entries) if match]
    stages = max((int(match.group(1)) for match in found), default=0)
    blocks = tuple(1 + max((int(m.group(2)) for m in found if int(m.group(1)) == stage), default=-1)
                   for stage in range(1, stages + 1))
    return blocks, any(match.group(3) == 'conv3' for match in found)
