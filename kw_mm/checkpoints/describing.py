"""What network a state dict looks like, in words for error messages."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .odconv import THEIR_NORM

BASIC = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
BOTTLENECK = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
KINDS = dict(channel_fc='ODConv2d', fc2='DYConv2d')  # by a layer of the attention branch
MOBILENET_STEMS = ('features.0.1.weight', 'conv1.bn.weight', 'conv_stem.weight')
# the depthwise convolution of a block in mmpretrain's, ConvNeXt's own, timm's and torchvision's
# names
CONVNEXT_BLOCK = re.compile(
    r'(?:stages\.(?P<stage>\d)|features\.(?P<feature>\d))\.(?:blocks\.)?(?P<block>\d+)\.'
    r'(?:depthwise_conv|dwconv|conv_dw|block\.0)\.bias$'
)
VISION_TRANSFORMER_BLOCK = re.compile(
    r'(?:layers|blocks)\.(\d+)\.(?:ffn\.layers\.0\.0|mlp\.fc1)\.bias$'
)
HEAD_CHANNELS = 64
LAYOUTS = dict(
    kw_mm='kw_mm',
    published='published KernelWarehouse',
    odconv='published ODConv',
    static='plain static',
)


def layout_of(keys) -> str:
    """'kw_mm', 'published' (KernelWarehouse), 'odconv' (published ODConv) or 'static'."""
    keys = list(keys)
    if any(key.startswith('warehouse_manager.weights.') for key in keys):
        return 'published'
    if any(THEIR_NORM in key for key in keys):
        return 'odconv'
    return (
        'kw_mm'
        if any(key.startswith('warehouses.') or '.attention.' in key for key in keys)
        else 'static'
    )


def identify(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The backbone's config without its budget, e.g. ``dict(type='KWResNet', depth=50)``; None if it is none we know."""
    known = (family(entries) for family in (_convnext, _mobilenet, _vision_transformer, _resnet))
    return next((cfg for cfg in known if cfg), None)


def dynamic_conv(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Config of the compared dynamic convolution that a network has, e.g. ``dict(type='ODConv2d', num_kernels=4)``."""
    for key, weight in entries.items():
        branch = key[: -len('weight')] + 'attention.'
        if not key.endswith('.weight') or weight.dim() not in (4, 5):
            continue
        if f'{branch}fc_phi.weight' in entries:
            return dict(type='DCDConv2d')
        if weight.dim() == 5:
            kind = next(
                (name for mark, name in KINDS.items() if f'{branch}{mark}.weight' in entries),
                'CondConv2d',
            )
            return dict(type=kind, num_kernels=len(weight))
    return None


def architecture(entries: Mapping[str, Tensor]) -> str:
    """A network's name, e.g. 'ResNet-50' or 'MobileNetV2 0.5'; its first keys where it is none we know."""
    known = identify(entries) or {}
    if 'widen_factor' in known:
        return f'MobileNetV2 {known["widen_factor"]:.4g}'
    if known.get('type') == 'KWConvNeXt':
        depths, channels = known['arch']['depths'], known['arch']['channels']
        return f'a ConvNeXt with {"-".join(map(str, depths))} blocks of {"-".join(map(str, channels))} channels'
    if known.get('type') == 'KWVisionTransformer':
        return f'a vision transformer with {known["arch"]["num_layers"]} layers of {known["arch"]["embed_dims"]} channels'
    blocks, _ = _resnet_blocks(entries)
    if not blocks:
        return f'an unknown network ({", ".join(list(entries)[:3]) or "empty"}, ...)'
    name = (
        f'ResNet-{known["depth"]}'
        if known
        else f'a ResNet with {"-".join(map(str, blocks))} blocks'
    )
    stem = entries.get('conv1.weight')
    return (
        name if stem is None or len(stem) == 64 else f'{name} with a stem of {len(stem)} channels'
    )


def looks_like(
    entries: Mapping[str, Tensor], reference: tuple[float, Mapping[str, Tensor]] | None = None
) -> str:
    """A state dict in words.

    Args:
        entries: Tensors by name, in any layout.
        reference: (budget, state dict) of a KW network of the same architecture, to tell the budget
            by.
    """
    words = f'{architecture(entries)} in the {LAYOUTS[layout_of(entries)]} layout'
    conv = dynamic_conv(entries)
    if conv:
        kernels = f' of {conv["num_kernels"]} kernels' if 'num_kernels' in conv else ''
        return f'{words} with {conv["type"]}{kernels}'
    cells = _cell_values(entries)
    if not cells:
        return words
    if (
        reference
        and _cell_values(reference[1])
        and architecture(reference[1]) == architecture(entries)
    ):
        return f'{words} with budget {reference[0] * cells / _cell_values(reference[1]):.4g}'
    return f'{words} with {cells / 1e6:.2f} M cell values'


def _cell_values(entries: Mapping[str, Tensor]) -> int:
    return sum(
        value.numel()
        for key, value in entries.items()
        if key.startswith('warehouse_manager.weights.')
        or (key.startswith('warehouses.') and key.endswith('.cells'))
    )


def _mobilenet(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    stem = next((entries[key] for key in MOBILENET_STEMS if key in entries), None)
    return (
        None
        if stem is None
        else _dynamic(entries, dict(type='KWMobileNetV2', widen_factor=len(stem) / 32))
    )


def _convnext(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    depths, channels = Counter(), {}
    for key, value in entries.items():
        match = CONVNEXT_BLOCK.match(key)
        if match:
            stage = int(match['stage']) if match['stage'] else int(match['feature']) // 2
            depths[stage] += 1
            channels[stage] = len(value)
    if not depths:
        return None
    stages = sorted(depths)
    outputs = [stage for stage in stages if f'norm{stage}.weight' in entries] or stages[-1:]
    arch = dict(
        depths=[depths[stage] for stage in stages], channels=[channels[stage] for stage in stages]
    )
    return dict(type='KWConvNeXt', arch=arch, out_indices=outputs)


def _vision_transformer(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    hidden = [len(value) for key, value in entries.items() if VISION_TRANSFORMER_BLOCK.match(key)]
    if not hidden or 'pos_embed' not in entries:
        return None
    patches, channels = entries['pos_embed'].shape[1:]
    patch = next(
        (
            value.shape[-1]
            for key, value in entries.items()
            if key.startswith('patch_embed.proj') and value.dim() == 4
        ),
        16,
    )
    arch = dict(
        embed_dims=channels,
        num_layers=len(hidden),
        num_heads=channels // HEAD_CHANNELS,
        feedforward_channels=hidden[0],
    )
    return dict(
        type='KWVisionTransformer',
        arch=arch,
        patch_size=patch,
        img_size=patch * math.isqrt(patches),
    )


def _resnet(entries: Mapping[str, Tensor]) -> dict[str, Any] | None:
    blocks, bottleneck = _resnet_blocks(entries)
    depth = (BOTTLENECK if bottleneck else BASIC).get(blocks)
    return _dynamic(entries, dict(type='KWResNet', depth=depth)) if depth else None


def _dynamic(entries: Mapping[str, Tensor], cfg: dict[str, Any]) -> dict[str, Any]:
    conv = dynamic_conv(entries)
    return dict(cfg, type=cfg['type'].replace('KW', 'Dynamic'), conv=conv) if conv else cfg


def _resnet_blocks(entries: Mapping[str, Tensor]) -> tuple[tuple[int, ...], bool]:
    """(blocks of each stage, whether they are bottlenecks)."""
    found = [
        match
        for match in (re.match(r'layer(\d)\.(\d+)\.(conv\d)\.', key) for key in entries)
        if match
    ]
    stages = max((int(match.group(1)) for match in found), default=0)
    blocks = tuple(
        1 + max((int(m.group(2)) for m in found if int(m.group(1)) == stage), default=-1)
        for stage in range(1, stages + 1)
    )
    return blocks, any(match.group(3) == 'conv3' for match in found)
