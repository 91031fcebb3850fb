"""Converting whole checkpoint files between our layout, the published one and plain static networks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import CheckpointError
from ..warehouse import KWLayer, kw_layers
from ..warehouse.warehouses import list_cells
from .describing import identify, layout_of, looks_like
from .names import rename, reverse
from .published import as_published
from .state_dicts import below, unwrap

TARGETS = ('kw_mm', 'static', 'published')
PUBLISHED_BUDGETS = (1, 4, 1 / 2, 2, 1 / 4, 3 / 4)
FINAL_NORMS = (
    'head.norm.',
    'classifier.0.',
)  # of timm's and torchvision's ConvNeXt: part of the backbone
CLASSIFIERS = ('fc.', 'classifier.1.', 'classifier.2.', 'classifier.', 'head.fc.')
PLAIN_HEAD = {'head.weight': 'head.fc.weight', 'head.bias': 'head.fc.bias'}
CONVERTED = 'kw_mm converts ResNets of depth 18, 34, 50, 101 and 152, MobileNetV2, ConvNeXts and vision transformers'
KW_CLASSIFIER = 'classifier.1.conv.'
OURS_ONLY = ('.attention.beta', 'warehouses.temperature')


class Parts(NamedTuple):
    """A network's weights.

    Args:
        backbone: The backbone's entries; of a published file also the warehouse of the classifier,
            if it has one.
        classifier: The classifier's entries.
        detector: Entries of neck and heads of a detector, under their full names.
    """

    backbone: dict[str, Tensor]
    classifier: dict[str, Tensor]
    detector: dict[str, Tensor]


def convert(content: Any, to: str = 'kw_mm', *, budget: float = 1) -> dict[str, dict[str, Tensor]]:
    """Convert what a checkpoint file holds.

    Args:
        content: A state dict, wrapped or not, of a classifier, a detector or a backbone.
        to: 'kw_mm', 'static' (mmpretrain's names; a KW network must be at temperature 1) or
            'published'.
        budget: Where plain static weights become KW ones: the budget to place them in.

    Returns:
        dict: ``{'state_dict': ...}``.

    Raises:
        CheckpointError: An unknown network, or a conversion that would change what the network
            computes.
    """
    if to not in TARGETS:
        raise CheckpointError(f'to={to!r} is unknown; choose one of {", ".join(TARGETS)}')
    try:
        parts = split(unwrap(content))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    source = layout_of(parts.backbone)
    if source == 'static' and to == 'static':
        return join(parts, _mmpretrain_names(parts.backbone))
    if source == 'static' and to == 'published':
        raise CheckpointError(
            'plain static weights have no published KernelWarehouse layout; convert them to kw_mm first'
        )
    backbone = _load_backbone(parts.backbone, None if source != 'static' else budget)
    if to != 'kw_mm' and not hasattr(backbone, 'warehouses'):
        raise CheckpointError(
            f'a {type(backbone).__name__} has no {to} KernelWarehouse twin; it can be converted to kw_mm'
        )
    head = _load_head(parts)
    if to == 'kw_mm':
        return join(parts, backbone.state_dict(), head)
    if to == 'static':
        return join(parts, _static(backbone), head and _static(head))
    return _published(parts, backbone, head)


def for_openmmlab(content: Any) -> dict[str, Any]:
    """A whole OpenMMLab model's checkpoint from a file of any layout; files of OpenMMLab's own form stay as they are.

    Published and torchvision-style files have no ``backbone.`` in front of the backbone's keys;
    they get it here.

    Raises:
        CheckpointError: There are no weights in it.
    """
    try:
        entries = unwrap(content)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if any(key.startswith(('backbone.', 'head.', 'neck.')) for key in entries):
        return content if 'state_dict' in content else dict(state_dict=entries)
    parts = split(entries)
    if layout_of(parts.backbone) in ('published', 'odconv'):
        return convert(entries)
    return join(parts, parts.backbone)


def split(entries: Mapping[str, Tensor]) -> Parts:
    """Take a network's weights apart."""
    whole = any(key.startswith('backbone.') for key in entries)
    detector = {
        key: value
        for key, value in entries.items()
        if key.startswith(('neck.', 'rpn_head.', 'roi_head.'))
    }
    classifier = {
        key: value
        for key, value in entries.items()
        if key.startswith((*CLASSIFIERS, 'head.')) and not key.startswith(FINAL_NORMS)
    }
    backbone = (
        below(entries, 'backbone.')
        if whole
        else {
            key: value
            for key, value in entries.items()
            if key not in detector and key not in classifier
        }
    )
    return Parts(backbone, classifier, detector)


def join(
    parts: Parts, backbone: Mapping[str, Tensor], head: Any | None = None
) -> dict[str, dict[str, Tensor]]:
    """A whole network under OpenMMLab's names."""
    state_dict = {f'backbone.{key}': value for key, value in backbone.items()}
    if head is not None:
        values = head.state_dict() if isinstance(head, nn.Module) else head
        state_dict.update({f'head.{key}': value for key, value in values.items()})
    else:
        for key, value in parts.classifier.items():
            start = next((start for start in CLASSIFIERS if key.startswith(start)), '')
            state_dict[f'head.fc.{key[len(start) :]}' if start else PLAIN_HEAD.get(key, key)] = (
                value
            )
    return dict(state_dict={**state_dict, **parts.detector})


def _load_backbone(entries: Mapping[str, Tensor], budget: float | None) -> nn.Module:
    cfg = identify(entries)
    if cfg is None:
        raise CheckpointError(f'the weights look like {looks_like(entries)}; {CONVERTED}')
    budgets = PUBLISHED_BUDGETS if budget is None else (budget,)
    problem: CheckpointError | None = None
    for candidate in [cfg] if 'conv' in cfg else [dict(cfg, budget=value) for value in budgets]:
        backbone = MODELS.build(candidate)
        try:
            backbone.load_state_dict(dict(entries))
            return backbone
        except CheckpointError as error:
            problem = problem or error
    raise problem


def _load_head(parts: Parts) -> nn.Module | None:
    """The classifier as a module where it has a warehouse."""
    published = any(key.startswith(KW_CLASSIFIER) for key in parts.classifier)
    ours = below(parts.classifier, 'head.')
    if not published and not any(key.startswith('warehouses.') for key in ours):
        return None
    classes = parts.classifier[f'{KW_CLASSIFIER}bias'] if published else ours['fc.bias']
    fc1 = (
        parts.classifier[f'{KW_CLASSIFIER}attention.fc1.weight']
        if published
        else ours['fc.attention.fc1.weight']
    )
    head = MODELS.build(
        dict(
            type='KWLinearClsHead',
            num_classes=len(classes),
            in_channels=fc1.shape[1],
            _scope_='mmpretrain',
        )
    )
    head.load_state_dict({**parts.backbone, **parts.classifier} if published else ours)
    return head


def _static(module: nn.Module) -> dict[str, Tensor]:
    if float(module.temperature) != 1:
        raise CheckpointError(
            f'the network is at temperature {float(module.temperature):g}: its kernels depend on the '
            'image; only at temperature 1 is it a plain static network'
        )
    layers = kw_layers(module)
    plain = {
        key: value
        for key, value in module.state_dict().items()
        if not key.startswith('warehouses.') and '.attention.' not in key
    }
    return {**plain, **{f'{name}.weight': start_kernel(layer) for name, layer in layers.items()}}


@torch.no_grad()
def start_kernel(layer: KWLayer) -> Tensor:
    """The plain kernel that a layer has at temperature 1, zero where it starts from the zero cell."""
    cells, beta = list_cells(layer.cells, layer.warehouse.cell_size), layer.attention.beta
    mixtures = beta[:, : len(cells)].to(cells) @ cells.flatten(1)
    return layer.partition.to_kernel(mixtures.reshape(len(beta), *cells.shape[1:]))


def _published(
    parts: Parts, backbone: nn.Module, head: nn.Module | None
) -> dict[str, dict[str, Tensor]]:
    state_dict = _published_names(backbone)
    if head is not None:
        number = len(backbone.warehouses)
        state_dict.update(_published_names(head, number))
        key = f'warehouse_manager.weights.{number}'
        state_dict[key] = state_dict[key].squeeze(-1)  # published for a linear layer
    elif parts.classifier:
        for key, value in parts.classifier.items():
            state_dict[backbone.layout_names().classifier + key.rsplit('.', 1)[-1]] = value
    if parts.detector:
        state_dict = {
            **{f'backbone.{key}': value for key, value in state_dict.items()},
            **parts.detector,
        }
    return dict(state_dict=state_dict)


def _published_names(module: nn.Module, first: int = 0) -> dict[str, Tensor]:
    numbers = {
        f'warehouses.{name}.cells': f'warehouse_manager.weights.{first + i}'
        for i, name in enumerate(module.warehouses)
    }
    prefixes = reverse(module.layout_names().published)
    listed = {
        f'warehouses.{name}.cells': warehouse.listed.detach()
        for name, warehouse in module.warehouses.items()
    }
    entries = {**module.state_dict(), **listed}
    return {
        numbers.get(key) or rename(key, prefixes): as_published(key, value)
        for key, value in entries.items()
        if not key.endswith((*OURS_ONLY, '.frozen_cells'))
    }


def _mmpretrain_names(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    known = identify(entries)
    if known is None:
        raise CheckpointError(f'the weights look like {looks_like(entries)}; {CONVERTED}')
    if known['type'] == 'KWResNet':
        return dict(entries)
    static = MODELS.build(dict(known, type=known['type'].replace('KW', 'Static')))
    static.load_state_dict(dict(entries))
    return static.state_dict()
