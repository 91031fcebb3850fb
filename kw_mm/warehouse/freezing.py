"""What freezing a layer means for the warehouse it shares with layers that still train."""

from torch import nn

from ..validation import check_choice
from .apply import kw_layers
from .warehouses import Warehouses

FREEZE_MODES = ('none', 'exclusive', 'strict')


def check_freeze_mode(mode: str) -> None:
    """Raises ValueError for an unknown mode."""
    check_choice('freeze_warehouses', mode, FREEZE_MODES)


def freeze_warehouses(module: nn.Module, mode: str) -> None:
    """Freeze warehouses after the module's layers have been frozen. May be called again and again.

    A KW layer counts as frozen when none of its own parameters requires a gradient.

    Args:
        module: A network with ``warehouses``.
        mode: 'none' (published): every warehouse still trains, so kernels of frozen layers move.
            'exclusive': warehouses that serve only frozen layers are frozen.
            'strict': in addition, frozen layers mix a detached copy of the cells they share with
            layers that train; the copy is saved in checkpoints.

    Raises:
        ValueError: An unknown mode.
    """
    check_freeze_mode(mode)
    if mode == 'none':
        return
    layers = kw_layers(module)
    frozen = {
        name
        for name, layer in layers.items()
        if not any(p.requires_grad for p in layer.parameters())
    }
    trained = {layer.warehouse_name for name, layer in layers.items() if name not in frozen}
    for name, warehouse in _warehouses_of(module).by_name().items():
        if name not in trained:
            warehouse.requires_grad_(False)
    if mode == 'strict':
        for name in frozen:
            if layers[name].warehouse_name in trained:
                layers[name].warehouse.keep_frozen_copy()
                layers[name].uses_frozen_cells = True


def _warehouses_of(module: nn.Module) -> Warehouses:
    warehouses = module.warehouses
    assert isinstance(warehouses, Warehouses)
    return warehouses
