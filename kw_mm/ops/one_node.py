"""Layers that torch.fx records as one call of a module, as it does those of torch.nn.

What a layer with a kernel for each image computes depends on sizes, the batch and the device, none
of which a symbolic trace knows.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.fx import Proxy

Layer = TypeVar('Layer', bound=nn.Module)


def one_node(forward: Callable[[Layer, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Decorate the ``forward`` of a layer that is to be one node in graphs of torch.fx.

    ``leaf_modules`` and tracers of one's own are not needed then. A layer may name, in
    ``held_elsewhere``, modules that it uses without owning them. They become further arguments of
    the call, which ignores them: so the graph's module has them too, and with them their
    parameters.
    """

    @wraps(forward)
    def recorded(self: Layer, x: Tensor, *others: Any) -> Tensor:
        if len(others) > len(getattr(self, 'held_elsewhere', ())):
            raise TypeError(
                f'{type(self).__name__} takes one tensor, got {1 + len(others)} arguments'
            )
        if isinstance(x, Proxy):
            return _call(self, x)
        return forward(self, x)

    return recorded


def _call(layer: nn.Module, x: Proxy) -> Any:
    """A node that calls the layer.

    Raises:
        ValueError: The layer itself is what is traced.
    """
    tracer: Any = x.tracer
    if layer is tracer.root:
        raise ValueError(
            f'torch.fx records a {type(layer).__name__} as one call of a module, so it must be in '
            'a network that is traced, got the layer itself; trace nn.Sequential(layer)'
        )
    in_network = set(tracer.root.modules())
    others = [one for one in getattr(layer, 'held_elsewhere', ()) if one in in_network]
    return tracer.create_proxy('call_module', tracer.path_of_module(layer), (x, *others), {})
