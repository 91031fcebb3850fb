"""The static baseline of KWMobileNetV2."""
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2

from ..checkpoints import LayoutNames, LoadsAnyLayout
from ..checkpoints.names import MOBILENET_V2
from .base import OTHER_MODULES


@MODELS.register_module()
class StaticMobileNetV2(LoadsAnyLayout, MobileNetV2):
    """mmpretrain's MobileNetV2 with frozen stages frozen from construction on, the stem's statistics included.

    The parent freezes only in ``train()``: after DistributedDataParallel has wrapped the model and waits for the
    frozen layers' gradients. Weights load from mmpretrain's, torchvision's and timm's names.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:
            self.conv1.eval()

    def train(self, mode: bool = True):
        super().train(mode)
        return self

    def layout_names(self) -> LayoutNames:
        """Keys of this backbone in plain files."""
        return LayoutNames(static=MOBILENET_V2, foreign=OTHER_MODULES)
