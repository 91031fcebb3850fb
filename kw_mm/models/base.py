"""What our backbones add to the OpenMMLab backbones they inherit from."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints import LayoutNames, LoadsAnyLayout
from ..checkpoints.plain_kernels import ATTENTION_STARTS
from ..ops.branch import AttentionBranch, init_linear
from ..ops.tracing import is_traced
from ..validation import check_choice, check_flag
from ..warehouse import (
    HasTemperature,
    KWLayer,
    apply_kernel_warehouse,
    freeze_warehouses,
    kw_layers,
)
from ..warehouse.freezing import check_freeze_mode
from ..warehouse.sharing import Plan
from .options import WarehouseOptions

OTHER_MODULES = (
    'fc.',
    'classifier.',
    'head.',
    'neck.',
    'rpn_head.',
    'roi_head.',
    'bbox_head.',
    'mask_head.',
)


class StaticBackbone(LoadsAnyLayout):
    """Mixin for an OpenMMLab backbone: weights of any layout load, contiguous images stay so.

    It comes before the OpenMMLab class in the bases, so that loading passes through it.
    """

    def layout_names(self) -> LayoutNames:
        """Keys of this backbone in other layouts."""
        return LayoutNames(foreign=OTHER_MODULES)

    def train(self, mode: bool = True):
        """As in OpenMMLab, where it returns nothing, so that ``.eval()`` could not be chained."""
        super().train(mode)
        return self

    def forward(self, x: Tensor):
        """(B, 3, H, W) -> one feature map per output stage, contiguous where the input is.

        Layers with a kernel per image turn a single image channels-last; mmcv's RoIAlign reads such
        features as if they were contiguous, without a word.
        """
        return contiguous_where(super().forward(x), x)


@torch.fx.wrap  # one node in its graphs, which cannot ask how features lie in memory
def contiguous_where(outputs: Iterable[Tensor], x: Tensor) -> Iterable[Tensor]:
    """Outputs, contiguous where the input is.

    Args:
        outputs: Feature maps.
        x (Tensor): The input, shape (B, 3, H, W).
    """
    return tuple(map(_contiguous, outputs)) if x.is_contiguous() else outputs


def _contiguous(x: Tensor) -> Tensor:
    """A contiguous copy; of one image, as of a transposed matrix, which torch copies in blocks."""
    if x.is_contiguous() or is_traced() or x.dim() != 4 or len(x) > 1:
        return x.contiguous()
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)  # (H W, C)
    return pixels.t().contiguous().unflatten(1, x.shape[2:]).unsqueeze(0)


class KWBackbone(StaticBackbone, HasTemperature):
    """Mixin for an OpenMMLab backbone: warehouses, their temperature, freezing, any layout on load.

    It comes before the OpenMMLab class in the bases, so that freezing and loading pass through it.
    """

    attention_start = 'plain'
    train_attention_in_frozen_stages = False

    def put_warehouses(self, options: WarehouseOptions, plan: Plan) -> None:
        """Replace the planned layers by layers that are mixed from warehouses.

        A backbone's constructor calls it once the plain network is built.

        Args:
            options: All options.
            plan: The sharing plan, in place of the one that the options may have.

        Raises:
            TypeError, ValueError: A plan that does not fit the network, or a bad option.
        """
        check_freeze_mode(options.freeze_warehouses)
        check_flag('train_attention_in_frozen_stages', options.train_attention_in_frozen_stages)
        if options.assemble_checkpoint and getattr(self, 'with_cp', False):
            raise ValueError(
                'assemble_checkpoint=True and with_cp=True exclude each other: with_cp recomputes '
                'whole blocks, their kernels included'
            )
        check_choice('attention_start', options.attention_start, ATTENTION_STARTS)
        self.freeze_warehouses = options.freeze_warehouses
        self.attention_start = options.attention_start
        self.train_attention_in_frozen_stages = options.train_attention_in_frozen_stages
        apply_kernel_warehouse(self, plan, **options.of_layers())
        self.warehouses.keep_format = False  # `forward` sees to it
        self.set_temperature(options.temperature)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        with attention_kept_training(self, self.train_attention_in_frozen_stages):
            super()._freeze_stages()
            if hasattr(self, 'warehouses'):  # OpenMMLab's constructor freezes before there are any
                freeze_warehouses(self, self.freeze_warehouses)

    def _init_from_scratch(self) -> None:
        """As in OpenMMLab, whose rules for linear layers are not for attention branches."""
        # a second call leaves all as it is
        layers = [] if self._is_init else list(kw_layers(self).values())
        with _attention_hidden(layers):
            super()._init_from_scratch()
        for layer in layers:
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            for module in layer.attention.modules():
                if isinstance(module, nn.Linear):
                    init_linear(module)

    def layout_names(self) -> LayoutNames:
        """Keys of this backbone in other layouts."""
        return replace(super().layout_names(), warehouses=dict(enumerate(self.warehouses)))


@contextmanager
def attention_kept_training(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Let what trains of attention branches still do so after stages have been frozen.

    Their norms' statistics are frozen with the stage all the same.
    """
    branches = [branch for branch in module.modules() if isinstance(branch, AttentionBranch)]
    training = [p for branch in branches for p in branch.parameters() if p.requires_grad]
    yield
    for parameter in training if wanted else ():
        parameter.requires_grad_(True)


@contextmanager
def _attention_hidden(layers: Iterable[KWLayer]) -> Iterator[None]:
    branches = [(layer, layer._modules.pop('attention')) for layer in layers]
    try:
        yield
    finally:
        for layer, branch in branches:
            layer.attention = branch


class CheckpointedStage(nn.Sequential):
    """A stage whose blocks are recomputed in the backward pass.

    Non-reentrant: with warehouses shared between blocks, reentrant checkpointing marks parameters
    ready twice under DistributedDataParallel.
    """

    @classmethod
    def of(cls, stage: nn.Sequential) -> 'CheckpointedStage':
        """Take over the blocks of a stage, and their own (reentrant) checkpointing with them."""
        for block in stage:
            block.with_cp = False
        return cls(*stage)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks one after another."""
        for block in self:
            x = checkpoint(block, x, use_reentrant=False) if torch.is_grad_enabled() else block(x)
        return x
