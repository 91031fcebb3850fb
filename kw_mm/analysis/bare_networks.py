"""Backbones to measure where OpenMMLab is not installed: torchvision's, with the published plans.

The same layers draw on the same warehouses as in :mod:`kw_mm.models`, whose modules need
mmpretrain; a test compares the two.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ..compared import ODConv2d
from ..errors import UserError
from ..warehouse import apply_kernel_warehouse

GROUPS_OF_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of MobileNetV2, one channel group each
LAST_PLANNED_STAGE = 6
MOBILENET_OUTPUTS = (3, 6, 13, 17)  # blocks whose results a detector takes


class Pyramid(nn.Module):
    """A network as a chain of stages, some of whose results are returned.

    Args:
        stages: In order.
        outputs: Numbers of the stages whose results are returned.
    """

    def __init__(self, stages: Sequence[nn.Module], outputs: Sequence[int]):
        super().__init__()
        self.stages, self.outputs = nn.ModuleList(stages), frozenset(outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> feature maps, fine ones first."""
        found = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.outputs:
                found.append(x)
        return found


def build_bare(network: str, kind: str, options: dict[str, Any]) -> nn.Module:
    """A backbone of torchvision's, plain or with dynamic convolutions.

    Args:
        network: 'r18', 'r50' or 'mbv2'.
        kind: 'static', 'kw' or 'odconv'.
        options: Of :func:`~kw_mm.warehouse.apply_kernel_warehouse` or
            :class:`~kw_mm.compared.ODConv2d`.

    Returns:
        nn.Module: Returns four feature maps. With warehouses it has ``warehouses``.

    Raises:
        UserError: torchvision is missing.
    """
    try:
        from torchvision import models
    except ImportError as missing:
        raise UserError(
            'measuring without OpenMMLab needs torchvision, whose networks are taken then; got '
            f'{missing}'
        ) from None
    if network == 'mbv2':
        net = models.mobilenet_v2()
        plan, names = mobilenet_plan(options.get('budget', 1)), mobilenet_layers()
        outputs: Sequence[int] = MOBILENET_OUTPUTS
    else:
        net = {'r18': models.resnet18, 'r50': models.resnet50}[network]()
        plan, names = bare_resnet_plan(net), resnet_layers(net)
        outputs = (1, 2, 3, 4)
    if kind == 'kw':
        apply_kernel_warehouse(net, plan, **options)
    elif kind == 'odconv':
        for name in names:
            _put_odconv(net, name, options)
    if network == 'mbv2':
        stages = list(net.features)
    else:
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        stages = [stem, net.layer1, net.layer2, net.layer3, net.layer4]
    pyramid = Pyramid(stages, outputs)
    if kind == 'kw':
        pyramid.warehouses = net.warehouses
    return pyramid


def _put_odconv(net: nn.Module, name: str, options: dict[str, Any]) -> None:
    old = net.get_submodule(name)
    new = ODConv2d(
        old.in_channels,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        old.dilation,
        old.groups,
        old.bias is not None,
        **options,
    )
    parent, _, child = name.rpartition('.')
    setattr(net.get_submodule(parent), child, new)


def _blocks(net: nn.Module) -> Iterator[tuple[int, int, str, nn.Module]]:
    for number in range(1, 5):
        for index, block in enumerate(getattr(net, f'layer{number}')):
            yield number, index, f'layer{number}.{index}', block


def resnet_layers(net: nn.Module) -> list[str]:
    """Names of the convolutions in a ResNet's residual branches."""
    return [
        f'{name}.{conv}'
        for _, _, name, block in _blocks(net)
        for conv in ('conv1', 'conv2', 'conv3')
        if hasattr(block, conv)
    ]


def bare_resnet_plan(net: nn.Module) -> dict[str, list[str]]:
    """The published plan of a ResNet: what sees the previous stage's channels draws on its
    warehouse, where there is one."""
    plan: dict[str, list[str]] = {}
    for number, index, name, block in _blocks(net):
        bottleneck = hasattr(block, 'conv3')
        convs = ['conv1', 'conv2', *(['conv3'] if bottleneck else [])]
        convs += ['downsample.0'] if block.downsample is not None else []
        for conv in convs:
            looks_back = conv == 'downsample.0' or (conv == 'conv1' and (number > 1 or bottleneck))
            source = number - 1 if index == 0 and looks_back else number
            if source:
                plan.setdefault(f'stage{source}', []).append(f'{name}.{conv}')
    return plan


def _mobilenet_convs() -> Iterator[tuple[int, str, str]]:
    """(stage, role, name) of the convolutions of torchvision's MobileNetV2 after the stem."""
    number = 0
    for group, count in enumerate(GROUPS_OF_BLOCKS, start=1):
        for index in range(count):
            number += 1
            stage = min(group - 1 if index == 0 and group > 1 else group, LAST_PLANNED_STAGE)
            roles = ['expand', 'depthwise'] if group > 1 else ['depthwise']
            for i, role in enumerate(roles):
                yield stage, role, f'features.{number}.conv.{i}.0'
            yield stage, 'project', f'features.{number}.conv.{len(roles)}'
    yield LAST_PLANNED_STAGE, 'project', f'features.{number + 1}.0'


def mobilenet_layers() -> list[str]:
    """Names of the convolutions of MobileNetV2 but the stem."""
    return [name for _, _, name in _mobilenet_convs()]


def mobilenet_plan(budget: float) -> dict[str, Any]:
    """The published plan of MobileNetV2 for budgets of 1 and more.

    Raises:
        UserError: A smaller budget.
    """
    if budget < 1:
        raise UserError(
            f'without OpenMMLab MobileNetV2 is measured with budgets of 1 and more, got {budget}; '
            'use kw1x-mbv2 or kw4x-mbv2'
        )
    plan: dict[str, Any] = {'stem': dict(layers=['features.0.0'], budget=budget)}
    for stage, role, name in _mobilenet_convs():
        shared = 'pointwise' if budget == 1 and role != 'depthwise' else role
        entry = plan.setdefault(f'stage{stage}_{shared}', dict(layers=[], budget=budget))
        entry['layers'].append(name)
    return plan
