"""Parameters and multiply-adds of a model, counted layer by layer while it runs.

Counted are convolutions, linear layers and the matrix products of self-attention; normalisation,
activations, pooling and interpolation are not, as is usual. A layer whose kernel is made for each
image anew says what making it costs with an attribute ``assembly_macs``; the modules inside such a
layer are its attention, but for convolutions and linear maps right in it (P and Q of DCD). With
``fusion_macs`` it says what else it does at each position of its output.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


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
        return Cost(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )


def count_costs(model: nn.Module, run: Callable[[], None]) -> dict[str, Cost]:
    """Costs of a model's parts (its direct children), by name; layers of the model itself are under ''.

    Args:
        model: Any module; parameters that parts share count for the first.
        run: Runs the model once, on one image.
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


def _part(module_name: str) -> str:
    return module_name.split('.')[0]


def _hooks(model: nn.Module, name: str, module: nn.Module, cost: Cost) -> list:
    count = _count_of(module)
    if count is None:
        return []
    kind = 'attention' if _in_an_attention_branch(model, name) else 'static'

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        setattr(cost, kind, getattr(cost, kind) + count(layer, inputs, output))
        cost.assembly += getattr(layer, 'assembly_macs', 0)

    return [module.register_forward_hook(hook)]


def _in_an_attention_branch(model: nn.Module, name: str) -> bool:
    parents = name.split('.')[:-1]
    return any(
        hasattr(model.get_submodule('.'.join(parents[:i])), 'assembly_macs')
        for i in range(len(parents))
    )


def _count_of(module: nn.Module) -> Callable[..., int] | None:
    if isinstance(module, _ConvTransposeNd):
        return _transposed
    if isinstance(module, MultiheadAttention):
        return _self_attention
    if (
        isinstance(module, nn.Linear)
        or hasattr(module, 'assembly_macs')
        and hasattr(module, 'in_features')
    ):
        return _linear
    if isinstance(module, _ConvNd) or hasattr(module, 'assembly_macs'):
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
    return positions * getattr(layer, 'fusion_macs', 0)


def _self_attention(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return 2 * output.numel() * inputs[0].shape[1]  # queries by keys, weights by values
