"""Linear classifier drawn from a warehouse: the classifier of the published MobileNetV2 1/2x."""

from mmengine.registry import MODELS
from mmpretrain.models.heads import LinearClsHead

from ..checkpoints import LayoutNames, LoadsAnyLayout
from ..warehouse import HasTemperature, apply_kernel_warehouse
from ..warehouse.budget import Budget
from ..warehouse.kernel_attention import Norm

PUBLISHED_WAREHOUSE = 9  # of the published MobileNetV2 1/2x: after the nine of its backbone
BACKBONE = ('features.', 'layer', 'conv', 'bn', 'backbone.')


@MODELS.register_module()
class KWLinearClsHead(LoadsAnyLayout, HasTemperature, LinearClsHead):
    """mmpretrain's linear head with its weight matrix mixed from a warehouse of its own.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the pooled features.
        budget: b, cells per mixture; published 1/2.
        cell_ratio: (output, input) share of the weight matrix that a cell takes; published 1 and
            1/40: cells of 1000 x 32 for 1280 features.
        reduction: Hidden units of the attention branch per input channel; published 1/32.
        attention_norm, init: As in :func:`kw_mm.warehouse.apply_kernel_warehouse`.
        **kwargs: Everything else :class:`mmpretrain.models.LinearClsHead` takes.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        budget: Budget = 1 / 2,
        *,
        cell_ratio: tuple[float, float] = (1, 1 / 40),
        reduction: float = 1 / 32,
        attention_norm: Norm = 'BN1d',
        init: str = 'published',
        init_cfg=None,
        **kwargs,
    ):
        super().__init__(num_classes, in_channels, init_cfg=init_cfg, **kwargs)
        apply_kernel_warehouse(
            self,
            {'classifier': ['fc']},
            budget=budget,
            cell_ratio=cell_ratio,
            reduction=reduction,
            attention_norm=attention_norm,
            init=init,
        )

    def layout_names(self) -> LayoutNames:
        """Keys of this head in a published file, where its warehouse is the last, and in plain ones."""
        plain = (('classifier.1.', 'fc.'), ('classifier.', 'fc.'))
        return LayoutNames(
            {PUBLISHED_WAREHOUSE: 'classifier'},
            published=(('classifier.1.conv.', 'fc.'),),
            static={'torchvision': plain},
            foreign=BACKBONE,
            home='head.',
        )
