"""Vision transformers: plain, and with kernel warehouses.

The paper applies KernelWarehouse to DeiT-Tiny, without saying how its layers share; no code is
published. The sharing here is ours, after the published ConvNeXt, whose pointwise layers are linear
layers too:

- Blocks are taken in groups of neighbours, three at a time as in ConvNeXt's stages of three:
  DeiT-Tiny has four groups.
- A group has two warehouses, one for the linear layers of self-attention (``qkv`` and the output
  projection) and one for the two of the feed-forward network. Within each, the common divisor of
  the kernels is the embedding width d.
- A cell is therefore d x d: a block's ``qkv`` has 3 mixtures (query, key and value matrix), its
  projection 1, its feed-forward layers 4 each; a group of three has m_t = 12 and 24.
- Below b = 1 cells are half as wide on both sides, as in the published ResNets and MobileNetV2.

A mixture's attention sees the mean over all tokens. It is normalised with LayerNorm, like
everything in the network. Patch and position embedding, norms and class token are static.
"""

import math
import re
from dataclasses import replace
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from mmpretrain.models.backbones import VisionTransformer

from ..checkpoints import LayoutNames
from ..checkpoints.architectures import Architecture, register
from ..checkpoints.layouts import Entries, Prefixes
from ..validation import check_count
from ..warehouse.budget import Budget, as_budget
from ..warehouse.sharing import Plan
from .base import KWBackbone, StaticBackbone
from .options import collect_options

LINEAR_LAYERS = {'attention': ('attn.qkv', 'attn.proj'), 'ffn': ('ffn.layers.0.0', 'ffn.layers.1')}
HEAD_CHANNELS = 64
PATCH_SIZE = 16
# a block's hidden layer in mmpretrain's and timm's names
HIDDEN_BIAS = re.compile(r'(?:layers|blocks)\.\d+\.(?:ffn\.layers\.0\.0|mlp\.fc1)\.bias$')


def timm_vision_transformer(num_layers: int) -> Prefixes:
    """timm's (and DeiT's own) names of a vision transformer and mmpretrain's."""
    pairs = [('patch_embed.proj.', 'patch_embed.projection.'), ('norm.', 'ln1.')]
    parts = (
        ('norm1.', 'ln1.'),
        ('norm2.', 'ln2.'),
        ('attn.', 'attn.'),
        ('mlp.fc1.', 'ffn.layers.0.0.'),
        ('mlp.fc2.', 'ffn.layers.1.'),
    )
    for index in range(num_layers):
        pairs += [(f'blocks.{index}.{theirs}', f'layers.{index}.{ours}') for theirs, ours in parts]
    return tuple(pairs)


@MODELS.register_module(force=True)
class StaticVisionTransformer(StaticBackbone, VisionTransformer):
    """mmpretrain's VisionTransformer, which loads weights of timm (and DeiT's own), too.

    Position embeddings of another image size are resized, as mmpretrain does.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, DropPath):  # numpy's number breaks a compiled graph
                module.drop_prob = float(module.drop_prob)

    def _freeze_stages(self) -> None:
        # mmpretrain's freezes embeddings whatever frozen_stages is
        if self.frozen_stages > 0:
            super()._freeze_stages()

    def layout_names(self) -> LayoutNames:
        """Keys in plain files; none are published with warehouses."""
        names = {'timm': timm_vision_transformer(self.num_layers), 'mmpretrain': ()}
        return replace(
            super().layout_names(),
            static=names,
            optional=('ln1.', 'ln2.', 'cls_token'),
            resized=('pos_embed',),
        )


@MODELS.register_module(force=True)
class KWVisionTransformer(KWBackbone, StaticVisionTransformer):
    """Vision transformer whose linear layers are mixed from warehouses; by default DeiT-Tiny.

    Args:
        arch: 'deit-tiny', 'deit-small', 'base', ... or a dict, as in
            :class:`mmpretrain.models.VisionTransformer`.
        budget: b, cells per mixture, of every warehouse.
        blocks_per_group: Neighbouring blocks that share; the last group may be smaller.
        **kwargs: All other :class:`~kw_mm.models.options.WarehouseOptions`. By default the plan is
            that of :func:`vision_transformer_plan`, ``attention_norm`` is 'LN', and ``cell_ratio``
            (1/2, 1/2) for b < 1. Everything else :class:`mmpretrain.models.VisionTransformer` takes
            (``img_size``, ``patch_size``, ``out_type``, ``out_indices``, ``drop_path_rate``,
            ``frozen_stages``, ``init_cfg``, ...).

    Raises:
        TypeError: An unknown keyword; the message names the nearest one.
        ValueError: A bad budget or option; the message names one that works.

    Example:
        >>> backbone = KWVisionTransformer('deit-tiny', out_type='featmap').eval()
        >>> backbone(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 192, 4, 4])
    """

    def __init__(
        self, arch='deit-tiny', budget: Budget = 1, *, blocks_per_group: int = 3, **kwargs
    ):
        budget = as_budget(budget)
        ratio = (1, 1) if budget >= 1 else (1 / 2, 1 / 2)
        options, others = collect_options(
            type(self), kwargs, budget=budget, cell_ratio=ratio, attention_norm='LN'
        )
        super().__init__(arch, **others)
        plan = options.sharing or vision_transformer_plan(self.num_layers, blocks_per_group)
        self.put_warehouses(options, plan)


def vision_transformer_plan(num_layers: int, blocks_per_group: int = 3) -> Plan:
    """The sharing plan of a vision transformer, described at the top of this file.

    Returns:
        dict: ``group1_attention``, ``group1_ffn``, ... and the layers that draw on each, in network
            order.

    Raises:
        ValueError: A group without blocks.
    """
    check_count('blocks_per_group', blocks_per_group, 'use for example 3')
    plan: dict[str, list[str]] = {}
    for block in range(num_layers):
        for kind, layers in LINEAR_LAYERS.items():
            warehouse = plan.setdefault(f'group{block // blocks_per_group + 1}_{kind}', [])
            warehouse += [f'layers.{block}.{layer}' for layer in layers]
    return plan


def recognise_vision_transformer(entries: Entries) -> dict[str, Any] | None:
    """Arch, patch size and image size of a vision transformer's weights; None for others."""
    hidden = [len(value) for key, value in entries.items() if HIDDEN_BIAS.match(key)]
    if not hidden or 'pos_embed' not in entries:
        return None
    patches, channels = entries['pos_embed'].shape[1:]
    kernels = (
        value
        for key, value in entries.items()
        if key.startswith('patch_embed.proj') and value.dim() == 4
    )
    patch = next((kernel.shape[-1] for kernel in kernels), PATCH_SIZE)
    arch = dict(
        embed_dims=channels,
        num_layers=len(hidden),
        num_heads=channels // HEAD_CHANNELS,
        feedforward_channels=hidden[0],
    )
    return dict(arch=arch, patch_size=patch, img_size=patch * math.isqrt(patches))


def describe_vision_transformer(entries: Entries) -> str | None:
    """A vision transformer's weights in words."""
    known = recognise_vision_transformer(entries)
    if known is None:
        return None
    arch = known['arch']
    return f'a vision transformer with {arch["num_layers"]} layers of {arch["embed_dims"]} channels'


register(
    Architecture(
        name='vision transformers',
        recognise=recognise_vision_transformer,
        describe=describe_vision_transformer,
        static=StaticVisionTransformer,
        kw=KWVisionTransformer,
        plan=lambda backbone, budget: vision_transformer_plan(backbone.num_layers),
    )
)
