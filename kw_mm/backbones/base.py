"""What every KW backbone adds to the OpenMMLab backbone it inherits from."""
from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints import PublishedNames, convert_published, is_published
from ..warehouse import HasTemperature, apply_kernel_warehouse, freeze_warehouses
from ..warehouse.freezing import check_freeze_mode
from ..warehouse.sharing import Plan


class KWBackbone(HasTemperature):
    """Mixin: warehouses, their temperature, freezing and the published checkpoint layout.

    It comes before the OpenMMLab class in the bases, so that freezing and loading pass through it.
    """

    def _put_warehouses(self, plan: Plan, freeze_mode: str, options: Dict[str, Any]) -> None:
        check_freeze_mode(freeze_mode)
        self.freeze_warehouses = freeze_mode
        apply_kernel_warehouse(self, plan, **options)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if hasattr(self, 'warehouses'):         # the parent's constructor freezes before there are any
            freeze_warehouses(self, self.freeze_warehouses)

    def published_prefixes(self) -> Tuple[Tuple[str, str], ...]:
        """(published, ours) pairs of key prefixes that differ."""
        return ()

    def published_names(self) -> PublishedNames:
        """Keys of this backbone in a published checkpoint."""
        return PublishedNames(dict(enumerate(self.warehouses)), self.published_prefixes(), ('fc.', 'classifier.'))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if is_published(state_dict, prefix):
            convert_published(self, self.published_names(), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class CheckpointedStage(nn.Sequential):
    """A stage whose blocks are recomputed in the backward pass.

    Non-reentrant: with warehouses shared between blocks, reentrant checkpointing marks parameters ready twice under
    DistributedDataParallel.
    """

    @classmethod
    def of(cls, stage: nn.Sequential) -> 'CheckpointedStage':
        """Take over the blocks of a stage, and their own (reentrant) checkpointing with them."""
        for block in stage:
            block.with_cp = False
        return cls(*stage)

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = checkpoint(block, x, use_reentrant=False) if torch.is_grad_enabled() else block(x)
        return x
