"""Vision transformer with kernel warehouses.

The paper applies KernelWarehouse to DeiT-Tiny, without saying how its layers share; no code is
published. The sharing
here is ours, after the published ConvNeXt, whose pointwise layers are linear layers too:

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

from typing import Any

from mmengine.registry import MODELS

from ..warehouse.budget import Budget, as_budget
from ..warehouse.kernel_attention import Norm
from ..warehouse.sharing import Plan
from .base import KWBackbone, take_options
from .static_vision_transformer import StaticVisionTransformer

LINEAR_LAYERS = {'attention': ('attn.qkv', 'attn.proj'), 'ffn': ('ffn.layers.0.0', 'ffn.layers.1')}


@MODELS.register_module()
class KWVisionTransformer(KWBackbone, StaticVisionTransformer):
    """Vision transformer whose linear layers are mixed from warehouses; by default DeiT-Tiny.

    Args:
        arch: 'deit-tiny', 'deit-small', 'base', ... or a dict, as in
            :class:`mmpretrain.models.VisionTransformer`.
        budget: b, cells per mixture, of every warehouse.
        blocks_per_group: Neighbouring blocks that share; the last group may be smaller.
        sharing: ``{warehouse: [layer names]}``; default :func:`vision_transformer_plan`.
        cell_ratio: (output, input) share of the common divisor; default 1, and 1/2 of each for b <
            1.
        attention_norm: As in :class:`KWResNet`, here 'LN' by default.
        reduction, nonlocal_basis_ratio, init, freeze_warehouses, temperature: As in
            :class:`KWResNet`.
        **kwargs: Everything else :class:`mmpretrain.models.VisionTransformer` takes (``img_size``,
            ``patch_size``, ``out_type``, ``out_indices``, ``drop_path_rate``, ``frozen_stages``,
            ``init_cfg``, ...).

    Raises:
        ValueError: A bad budget or option; the message names one that works.

    Example:
        >>> backbone = KWVisionTransformer('deit-tiny', out_type='featmap').eval()
        >>> backbone(torch.rand(1, 3, 64, 64))[0].shape
        torch.Size([1, 192, 4, 4])
    """

    def __init__(
        self,
        arch='deit-tiny',
        budget: Budget = 1,
        *,
        blocks_per_group: int = 3,
        sharing: Plan | None = None,
        cell_ratio: tuple | None = None,
        reduction: float = 1 / 16,
        nonlocal_basis_ratio: float = 1,
        attention_norm: Norm = 'LN',
        init: str = 'published',
        freeze_warehouses: str = 'none',
        temperature: float = 0.0,
        **kwargs,
    ):
        budget, further = as_budget(budget), take_options(kwargs)
        super().__init__(arch, **kwargs)
        options = dict(
            budget=budget,
            reduction=reduction,
            nonlocal_basis_ratio=nonlocal_basis_ratio,
            attention_norm=attention_norm,
            init=init,
            **further,
            cell_ratio=cell_ratio or ((1, 1) if budget >= 1 else (1 / 2, 1 / 2)),
        )
        plan = sharing or vision_transformer_plan(self.num_layers, blocks_per_group)
        self._put_warehouses(plan, freeze_warehouses, temperature, options)


def vision_transformer_plan(num_layers: int, blocks_per_group: int = 3) -> Plan:
    """The sharing plan of a vision transformer, described at the top of this file.

    Returns:
        dict: ``group1_attention``, ``group1_ffn``, ... and the layers that draw on each, in network
            order.

    Raises:
        ValueError: A group without blocks.
    """
    if not isinstance(blocks_per_group, int) or blocks_per_group < 1:
        raise ValueError(
            f'blocks_per_group={blocks_per_group!r} is not a positive number of blocks; use for example 3'
        )
    plan: dict[str, list[Any]] = {}
    for block in range(num_layers):
        for kind, layers in LINEAR_LAYERS.items():
            warehouse = plan.setdefault(f'group{block // blocks_per_group + 1}_{kind}', [])
            warehouse += [f'layers.{block}.{layer}' for layer in layers]
    return plan
