"""How FullyShardedDataParallel cuts up a network with warehouses."""

from mmengine.registry import FUNCTIONS
from torch import nn
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from ..warehouse import Warehouse


@FUNCTIONS.register_module()
def wrap_outside_warehouses(
    module: nn.Module, recurse: bool, nonwrapped_numel: int, min_num_params: int = 10**8
) -> bool:
    """``auto_wrap_policy`` by size that leaves warehouses unwrapped.

    By size as torch's :func:`size_based_auto_wrap_policy`. FSDP gathers a unit's parameters while
    the unit's own forward runs. Cells are read in the forward of the layers that share them, so
    they belong to the unit around all of these: the backbone, or the model.

    Args:
        module, recurse, nonwrapped_numel: What FSDP asks with.
        min_num_params: Parameters from which on a module is a unit of its own.

    Returns:
        bool: Whether the module becomes a unit (``recurse``: whether to look at its children).

    Example:
        >>> strategy = dict(type='FSDPStrategy', model_wrapper=dict(
        ...     auto_wrap_policy=dict(type='wrap_outside_warehouses', min_num_params=1_000_000)))
    """
    unwrapped = {*size_based_auto_wrap_policy.EXCLUDE_WRAP_MODULES, Warehouse}
    return size_based_auto_wrap_policy(
        module, recurse, nonwrapped_numel, min_num_params, exclude_wrap_modules=unwrapped
    )
