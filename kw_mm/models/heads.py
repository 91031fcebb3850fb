"""Classifier heads: mixed from a warehouse, or with one of the compared dynamic layers."""

from typing import Any

from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from ..checkpoints import LayoutNames, LoadsAnyLayout
from ..checkpoints.architectures import register_head
from ..checkpoints.layouts import PUBLISHED_CELLS, Entries
from ..compared import CondLinear, DCDLinear
from ..ops.branch import Norm
from ..validation import check_choice
from ..warehouse import HasTemperature, apply_kernel_warehouse
from ..warehouse.budget import Budget

LINEARS = {'Linear': nn.Linear, 'CondLinear': CondLinear, 'DCDLinear': DCDLinear}
PUBLISHED_WAREHOUSE = 9  # of the published MobileNetV2 1/2x: after the nine of its backbone
PLAIN_NAMES = (('classifier.1.', 'fc.'), ('classifier.', 'fc.'))
BACKBONE = ('features.', 'layer', 'conv', 'bn', 'backbone.')


@MODELS.register_module(force=True)
class KWLinearClsHead(LoadsAnyLayout, HasTemperature, LinearClsHead):
    """mmpretrain's linear head with its weight matrix mixed from a warehouse of its own.

    It is the classifier of the published MobileNetV2 1/2x.

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
        nn.init.zeros_(self.fc.bias)  # as published; torch's own start is random

    def layout_names(self) -> LayoutNames:
        """Keys of this head in the authors' file, whose last warehouse it has, and plain ones."""
        return LayoutNames(
            {PUBLISHED_WAREHOUSE: 'classifier'},
            published=(('classifier.1.conv.', 'fc.'),),
            static={'torchvision': PLAIN_NAMES},
            foreign=BACKBONE,
            home='head.',
        )


@register_head
def kw_head_of(entries: Entries) -> KWLinearClsHead | None:
    """The head that a classifier's entries belong to, with random weights.

    Args:
        entries: The head's tensors by name, in our layout or the published one.

    Returns:
        KWLinearClsHead, optional: None where no cells are among the entries.
    """
    if not any(key.startswith(('warehouses.', PUBLISHED_CELLS)) for key in entries):
        return None
    classes, channels = len(entries['fc.bias']), entries['fc.attention.fc1.weight'].shape[1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # where its loss is registered
        return KWLinearClsHead(classes, channels)


@MODELS.register_module(force=True)
class DynamicLinearClsHead(LoadsAnyLayout, LinearClsHead):
    """mmpretrain's linear head with dropout, and a dynamic layer where the publication has one.

    A plain classifier's weights make it that classifier, exactly.

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
        check_choice('linear.type', kind, LINEARS)
        if kind != 'Linear':
            # OpenMMLab's would reach into the attention branch
            kwargs.setdefault('init_cfg', None)
        super().__init__(num_classes, in_channels, **kwargs)
        self.fc = LINEARS[kind](in_channels, num_classes, **options)
        self.dropout = nn.Dropout(dropout)

    def layout_names(self) -> LayoutNames:
        """Keys of this head in a plain network's file."""
        return LayoutNames(static={'torchvision': PLAIN_NAMES}, foreign=BACKBONE, home='head.')

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """The last stage's features, with dropout in training."""
        return self.dropout(super().pre_logits(feats))
