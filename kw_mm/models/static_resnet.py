"""The static baseline of KWResNet, and what both share."""

from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from mmpretrain.models.backbones import ResNet
from torch import nn

from .base import CheckpointedStage, StaticBackbone

DROP_PATH_MODES = ('constant', 'linear')


@MODELS.register_module()
class StaticResNet(StaticBackbone, ResNet):
    """mmpretrain's ResNet with the published defaults.

    Args:
        depth: 18, 34, 50, 101 or 152.
        drop_path_rate: Probability of dropping a residual branch.
        drop_path_mode: 'constant' (published: the same rate for every block) or 'linear'
            (mmpretrain's ramp).
        zero_init_residual: mmpretrain's option; False as in the published models.
        **kwargs: Everything else :class:`mmpretrain.models.ResNet` takes.

    Raises:
        ValueError: A bad depth, mode, stage or number of frozen stages; the message names ones that
            work.
    """

    def __init__(
        self,
        depth: int,
        *,
        drop_path_rate: float = 0.0,
        drop_path_mode: str = 'constant',
        zero_init_residual: bool = False,
        **kwargs,
    ):
        if depth not in self.arch_settings:
            raise ValueError(
                f'depth={depth!r} is not a ResNet; choose one of {", ".join(map(str, self.arch_settings))}'
            )
        if drop_path_mode not in DROP_PATH_MODES:
            raise ValueError(
                f"drop_path_mode={drop_path_mode!r} is unknown; choose 'constant' or 'linear'"
            )
        frozen, stages = kwargs.get('frozen_stages', -1), kwargs.get('num_stages', 4)
        if not isinstance(frozen, int) or not -1 <= frozen <= stages:
            raise ValueError(
                f'frozen_stages={frozen!r} is no number of stages from -1 (nothing) and 0 (stem) to {stages}'
            )
        outputs = kwargs.get('out_indices', (stages - 1,))
        if not set(outputs) <= set(range(stages)):
            raise ValueError(
                f'out_indices={tuple(outputs)} are not all stages, which are 0 to {stages - 1}'
            )
        super().__init__(
            depth,
            drop_path_rate=float(drop_path_rate),
            zero_init_residual=zero_init_residual,
            **kwargs,
        )
        if drop_path_mode == 'constant' and drop_path_rate:
            for stage in self.stages():
                for block in stage:
                    block.drop_path = DropPath(drop_path_rate)

    def stages(self) -> list[nn.Sequential]:
        """layer1 ... layer4."""
        return [getattr(self, name) for name in self.res_layers]

    def make_res_layer(self, **kwargs) -> nn.Sequential:
        stage = super().make_res_layer(**kwargs)
        return CheckpointedStage.of(stage) if kwargs['with_cp'] else stage
