"""The static baseline of KWMobileNetV2."""
from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2


@MODELS.register_module()
class StaticMobileNetV2(MobileNetV2):
    """mmpretrain's MobileNetV2 with frozen stages frozen from construction on, the stem's statistics included.

    The parent freezes only in ``train()``: after DistributedDataParallel has wrapped the model and waits for the
    frozen layers' gradients.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:
            self.conv1.eval()
