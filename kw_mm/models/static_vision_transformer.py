"""The static baseline of KWVisionTransformer, and what both share."""

from dataclasses import replace

from mmengine.registry import MODELS
from mmpretrain.models.backbones import VisionTransformer

from ..checkpoints import LayoutNames
from ..checkpoints.names import timm_vision_transformer
from .base import StaticBackbone


@MODELS.register_module()
class StaticVisionTransformer(StaticBackbone, VisionTransformer):
    """mmpretrain's VisionTransformer, whose weights load from mmpretrain's and timm's (DeiT's own) names.

    Position embeddings of another image size are resized, as by the parent.
    """

    def _freeze_stages(self) -> None:
        # the parent's own freezes embeddings whatever frozen_stages is
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
