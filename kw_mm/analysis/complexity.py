"""Parameters and multiply-adds of a model, counted layer by layer while it runs.

Counted are convolutions, linear layers and the matrix products of self-attention; normalisation,
activations, pooling and interpolation are not, as is usual.

Layers whose kernel is made for each image anew are known by what they say about it
(:class:`kw_mm.protocols.MakesKernels`), and their attention by where it stands: whatever lies
inside a submodule of such a layer is its branch. Convolutions and linear maps right in the layer
are not (P and Q of DCD). This needs nothing of the branches' classes, and leaves modules that weigh
features and not kernels (SE, CBAM) among the static costs, as other counts have them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..errors import UserError
from ..protocols import FusesFeatures, MakesKernels

BOXES, MASKS = 1000, 100  # of an image, as mmdet's own counting and the papers' figures have it


@dataclass
class Cost:
    """What a part of a model costs.

    Args:
        parameters: Number of parameters, each counted once.
        static: Multiply-adds per image of convolutions and linear layers, whatever their kernels
            come from.
        attention: Those of the branches that weigh cells or kernels.
        assembly: Those of mixing and scaling the kernels.
    """

    parameters: int = 0
    static: int = 0
    attention: int = 0
    assembly: int = 0

    @property
    def multiply_adds(self) -> int:
        """All of them, per image."""
        return self.static + self.attention + self.assembly

    def __add__(self, other: 'Cost') -> 'Cost':
        names = (field.name for field in fields(self))
        return Cost(*(getattr(self, name) + getattr(other, name) for name in names))


def count_costs(model: nn.Module, run: Callable[[], None]) -> dict[str, Cost]:
    """Count the costs of a model's parts, which are its direct children.

    Args:
        model: Any module; parameters that parts share count for the first.
        run: Runs the model once, on one image.

    Returns:
        dict: {name of the part: its cost}; layers of the model itself are under ''.

    Example:
        >>> count_costs(model, lambda: forward_once(model, (224, 224)))['backbone'].multiply_adds
    """
    costs = {name: Cost() for name in ('', *dict(model.named_children()))}
    for name, parameter in model.named_parameters():
        costs[_part(name.rpartition('.')[0])].parameters += parameter.numel()
    hooks = [
        hook
        for name, module in model.named_modules()
        for hook in _hooks(model, name, module, costs[_part(name)])
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: cost for name, cost in costs.items() if cost != Cost()}


def forward_once(model: nn.Module, size: tuple[int, int]) -> None:
    """Run a model on one blank image.

    The heads of a two-stage detector run on features of 1000 boxes, and 100 for masks, so that what
    they cost does not depend on what an untrained detector finds.

    Args:
        model: An OpenMMLab classifier, detector or segmentor, or a backbone.
        size: (height, width) of the image.

    Raises:
        UserError: A detector with several stages of heads.
    """
    model.eval()
    image = torch.zeros(1, 3, *size)
    if hasattr(model, 'roi_head'):
        _two_stages(model, image)
    elif hasattr(model, 'extract_feat'):
        model(image, mode='tensor')
    else:
        model(image)


def _two_stages(model: nn.Module, image: Tensor) -> None:
    features = model.extract_feat(image)
    if model.with_rpn:
        model.rpn_head(features)
    heads = model.roi_head
    if isinstance(heads.bbox_head, nn.ModuleList) or heads.with_shared_head:
        raise UserError(
            f'multiply-adds of a {type(heads).__name__} with cascaded or shared heads are not '
            'counted; those of a StandardRoIHead (Faster R-CNN, Mask R-CNN) are'
        )
    heads.bbox_head(_regions(heads.bbox_roi_extractor, BOXES))
    if heads.with_mask:
        heads.mask_head(_regions(heads.mask_roi_extractor, MASKS))


def _regions(extractor: nn.Module, count: int) -> Tensor:
    return torch.zeros(count, extractor.out_channels, *extractor.roi_layers[0].output_size)


def _part(module_name: str) -> str:
    return module_name.split('.')[0]


def _hooks(model: nn.Module, name: str, module: nn.Module, cost: Cost) -> list:
    count = _count_of(module)
    if count is None:
        return []
    kind = 'attention' if _in_an_attention_branch(model, name) else 'static'

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        setattr(cost, kind, getattr(cost, kind) + count(layer, inputs, output))
        if isinstance(layer, MakesKernels):
            cost.assembly += layer.assembly_macs

    return [module.register_forward_hook(hook)]


def _in_an_attention_branch(model: nn.Module, name: str) -> bool:
    above = name.split('.')[:-1]  # but for the module that it stands right in
    return any(
        isinstance(model.get_submodule('.'.join(above[:i])), MakesKernels)
        for i in range(len(above))
    )


def _count_of(module: nn.Module) -> Callable[..., int] | None:
    makes_kernels = isinstance(module, MakesKernels)
    if isinstance(module, _ConvTransposeNd):
        return _transposed
    if isinstance(module, MultiheadAttention):
        return _self_attention
    if isinstance(module, nn.Linear) or (makes_kernels and hasattr(module, 'in_features')):
        return _linear
    if isinstance(module, _ConvNd) or makes_kernels:
        return _convolution
    return None


def _convolution(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    macs = output.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return macs + _fusion(layer, output.numel() // layer.out_channels)


def _transposed(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return inputs[0].numel() * layer.out_channels // layer.groups * math.prod(layer.kernel_size)


def _linear(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return output.numel() * layer.in_features + _fusion(layer, output.numel() // output.shape[-1])


def _fusion(layer: nn.Module, positions: int) -> int:
    return positions * layer.fusion_macs if isinstance(layer, FusesFeatures) else 0


def _self_attention(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return 2 * output.numel() * inputs[0].shape[1]  # queries by keys, weights by values
