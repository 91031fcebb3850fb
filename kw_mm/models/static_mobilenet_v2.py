"""The static baseline of KWMobileNetV2, and what both share."""

from dataclasses import replace

from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2
from torch import nn

from ..checkpoints import LayoutNames
from ..checkpoints.names import MOBILENET_V2
from .base import CheckpointedStage, StaticBackbone


@MODELS.register_module()
class StaticMobileNetV2(StaticBackbone, MobileNetV2):
    """mmpretrain's MobileNetV2 with frozen stages frozen from construction on, the stem's statistics included.

    The parent freezes only in ``train()``: after DistributedDataParallel has wrapped the model and
    waits for the frozen layers' gradients. Weights load from mmpretrain's, torchvision's and timm's
    names.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._freeze_stages()

    def make_layer(self, *args, **kwargs) -> nn.Sequential:
        stage = super().make_layer(*args, **kwargs)
        return CheckpointedStage.of(stage) if self.with_cp else stage

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:
            self.conv1.eval()

    def layout_names(self) -> LayoutNames:
        """Keys in published files (torchvision's for the layers) and in plain ones."""
        return replace(
            super().layout_names(),
            published=MOBILENET_V2['torchvision'],
            static=MOBILENET_V2,
            classifier='classifier.',
        )
