"""Linear classifier of the compared dynamic convolutions."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from ..compared import CondLinear, DCDLinear

LINEARS = {'Linear': nn.Linear, 'CondLinear': CondLinear, 'DCDLinear': DCDLinear}


@MODELS.register_module()
class DynamicLinearClsHead(LinearClsHead):
    """mmpretrain's linear head with dropout, and with a dynamic layer where the publication has one.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pooled features.
        linear: Type and options of the layer: 'Linear', ``dict(type='CondLinear', num_kernels=8)``
            of the published CondConv networks, 'DCDLinear' of the DCD ones.
        dropout: Probability of dropping a feature; ODConv 4x was trained with 0.2.
        **kwargs: Everything else :class:`mmpretrain.models.LinearClsHead` takes.

    Raises:
        ValueError: An unknown layer type.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        linear: dict[str, Any] | None = None,
        dropout: float = 0.0,
        **kwargs,
    ):
        options = dict(linear or dict(type='Linear'))
        kind = options.pop('type', None)
        if kind not in LINEARS:
            raise ValueError(f'linear type {kind!r} is unknown; choose one of {", ".join(LINEARS)}')
        if kind != 'Linear':
            kwargs.setdefault(
                'init_cfg', None
            )  # the parent's would reach into the attention branch
        super().__init__(num_classes, in_channels, **kwargs)
        self.fc = LINEARS[kind](in_channels, num_classes, **options)
        self.dropout = nn.Dropout(dropout)

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """The last stage's features, with dropout in training."""
        return self.dropout(super().pre_logits(feats))
