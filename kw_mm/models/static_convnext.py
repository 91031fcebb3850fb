"""The static baseline of KWConvNeXt, and what both share."""

from dataclasses import replace

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ConvNeXt
from torch import nn

from ..checkpoints import LayoutNames
from ..checkpoints.names import convnext, facebook_convnext
from .base import CheckpointedStage, StaticBackbone


@MODELS.register_module()
class StaticConvNeXt(StaticBackbone, ConvNeXt):
    """mmpretrain's ConvNeXt, whose weights load from mmpretrain's, timm's, torchvision's and ConvNeXt's own names.

    A classifier's file has the norm of the last stage alone; a detector's backbone keeps the start
    of its other output norms then, and the log says so.

    Args:
        arch: 'tiny', 'small', 'base', ... or ``dict(depths=[...], channels=[...])``.
        with_cp: Recompute blocks in the backward pass, without reentrance.
        **kwargs: Everything else :class:`mmpretrain.models.ConvNeXt` takes. For detection:
            ``out_indices=[0, 1, 2, 3]`` and ``gap_before_final_norm=False``.
    """

    def __init__(self, arch='tiny', *, with_cp: bool = False, **kwargs):
        super().__init__(arch, with_cp=False, **kwargs)
        if with_cp:
            self.stages = nn.ModuleList(CheckpointedStage.of(stage) for stage in self.stages)

    def layout_names(self) -> LayoutNames:
        """Keys in published files (ConvNeXt's own for the layers) and in plain ones."""
        return replace(
            super().layout_names(),
            published=facebook_convnext(self.depths, self.out_indices),
            static=convnext(self.depths),
            classifier='head.',
            optional=tuple(f'norm{stage}.' for stage in range(len(self.depths))),
        )
