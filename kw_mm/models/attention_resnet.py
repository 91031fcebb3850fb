"""ResNet with attention to features, for comparison: SE, CBAM and ECA."""

from collections import OrderedDict

from mmengine.registry import MODELS
from mmpretrain.models.utils import SELayer
from torch import nn

from ..compared.feature_attention import CBAM, ECA
from ..validation import check_choice
from .static_resnet import StaticResNet

ATTENTIONS = {'se': SELayer, 'cbam': CBAM, 'eca': ECA}


@MODELS.register_module()
class AttentionResNet(StaticResNet):
    """ResNet with an attention module at the end of every residual branch.

    The module stands where drop path does, and before it, so that blocks and their other keys stay
    mmpretrain's.

    Args:
        depth: 18, 34, 50, 101 or 152.
        attention: 'se' (mmpretrain's), 'cbam' or 'eca'.
        **kwargs: As in :class:`StaticResNet`.

    Raises:
        ValueError: An unknown attention.
    """

    def __init__(self, depth: int, attention: str = 'se', **kwargs):
        check_choice('attention', attention, ATTENTIONS)
        super().__init__(depth, **kwargs)
        for stage in self.stages():
            for block in stage:
                module = ATTENTIONS[attention](block.out_channels)
                block.drop_path = nn.Sequential(
                    OrderedDict(attention=module, drop_path=block.drop_path)
                )
        self._freeze_stages()
