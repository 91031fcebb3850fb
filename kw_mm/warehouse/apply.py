"""Put warehouses into any network, given a sharing plan."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from ..ops.branch import Norm
from ..ops.partition import CellShape, CellSize, KernelShape, Partition, common_cell
from ..validation import check_choice, check_flag
from .attention_size import CutWarehouse, check_attention
from .auto_plan import auto_plan
from .budget import Budget
from .initialization import STARTS, Start, kaiming_cells_, kaiming_kernel
from .kernel_attention import KernelAttention, ReducedKernelAttention
from .layers import KWConv1d, KWConv2d, KWConv3d, KWLayer, KWLinear
from .plain_layers import PlainLayer, find_layer, kernel_shape
from .plain_start import plain_start
from .sharing import SHARING_RANGES, Plan, WarehousePlan, of_equal_kernels, read_plan
from .warehouses import Warehouse, Warehouses, logger

CONVS_BY_DIMENSIONS: dict[int, type[KWConv1d | KWConv2d | KWConv3d]] = {
    1: KWConv1d,
    2: KWConv2d,
    3: KWConv3d,
}
INITS = ('keep', 'published', 'plain')


def apply_kernel_warehouse(
    module: nn.Module,
    plan: Plan | str,
    *,
    inputs: Any = None,
    skip: Sequence[str] = (),
    budget: Budget = 1,
    cell_ratio: tuple[float, float] = (1, 1),
    reduction: float = 1 / 16,
    nonlocal_basis_ratio: float = 1,
    attention_norm: Norm = 'BN1d',
    init: str | None = None,
    attention_function: str = 'caf',
    zero_cell: bool = True,
    start: str = 'one_to_one',
    partition: bool = True,
    sharing_range: str = 'stage',
    assemble_checkpoint: bool = False,
    max_attention: float = 4,
) -> nn.Module:
    """Replace the planned layers of a network by KW layers, in place.

    The network gets a child ``warehouses`` (:class:`Warehouses`), which owns all cells and the
    temperature.

    Args:
        module: Any network; planned layers are convolutions of one to three dimensions
            (:class:`torch.nn.Conv2d`, ...) or :class:`torch.nn.Linear`.
        plan: ``{warehouse name: [layer names]}``, see :mod:`kw_mm.warehouse.sharing`; 'auto' for
            that of :func:`kw_mm.warehouse.auto_plan`, which is printed as a table.
        inputs, skip: For the plan 'auto': what the network takes, and names of layers or modules
            that stay plain.
        budget: b = n / m_t of every warehouse for which the plan says nothing else.
        cell_ratio: (output, input) share of the common channel divisor that a cell takes.
        reduction: Hidden units of the attention branches per input channel (at least 16 units).
        nonlocal_basis_ratio: Below 1, attention to cells of other layers goes through a basis of
            this relative size.
        attention_norm: Normalisation in the attention branch: 'BN1d' (published), 'LN', 'SyncBN',
            'none' or ``channels -> module``.
        init: What the layers begin with. 'keep' (default) for the network's own weights: it stays
            the same network, at every temperature, and attention is learnt from there; with a
            budget below 1 it is near it, and a line of the log says how near. 'published' for the
            random start of the paper, also the default, with a warning, where options of its
            ablations leave no way to keep weights. 'plain' for a random start whose start cells
            form, at temperature 1, a plain kernel with its usual start (budget >= 1).
        attention_function: 'caf' (published), 'softmax', 'sigmoid', 'relu' or 'caf_unnormalised',
            see :mod:`kw_mm.warehouse.attention_functions`.
        zero_cell: Whether a zero cell takes attention beside the cells, as published.
        start: Cells that a mixture is made of at temperature 1: 'one_to_one' (published),
            'all_to_all', 'several_cells' (b each), 'shared_cell' (one for 1/b mixtures) or 'none',
            see :mod:`kw_mm.warehouse.initialization`.
        partition: False for cells that are whole kernels: every layer is one mixture.
            ``cell_ratio`` has no meaning then, and a planned warehouse becomes one for each kernel
            shape among its layers.
        sharing_range: Layers that share a warehouse: 'stage' (published) for those of the plan,
            'layer' or 'two_stages', see :mod:`kw_mm.warehouse.sharing`.
        assemble_checkpoint: Mix kernels again in the backward pass instead of keeping them (R50: 89
            MiB per image). Not together with activation checkpointing of blocks, which does so by
            itself.
        max_attention: How many times as many values as the kernels the attention may have, before
            the plan is refused (from ten million values on; from one million on, the log says
            so). It is computed before anything is allocated.

    Returns:
        nn.Module: The same network.

    Raises:
        TypeError, ValueError: A plan that does not fit the network, or a bad option; the network is
            unchanged then.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 1))
        >>> images = torch.rand(2, 16, 8, 8)
        >>> before = net(images)
        >>> net = apply_kernel_warehouse(net, {'all': ['0', '2']}, budget=2)
        >>> torch.allclose(net(images), before, atol=1e-5)
        True
    """
    if init is not None:
        check_choice('init', init, INITS)
    check_choice('start', start, STARTS)
    check_choice('sharing_range', sharing_range, SHARING_RANGES)
    check_flag('zero_cell', zero_cell)
    check_flag('partition', partition)
    check_flag('assemble_checkpoint', assemble_checkpoint)
    if isinstance(plan, str):
        check_choice('plan', plan, ('auto',))
        found = auto_plan(module, inputs, budget=budget, reduction=reduction, skip=skip)
        print(found)
        plan = found.plan
    if hasattr(module, 'warehouses'):
        raise ValueError(f'{type(module).__name__} has an attribute `warehouses` already')
    default = WarehousePlan(budget=budget, cell_ratio=cell_ratio)
    attention: dict[str, Any] = dict(
        reduction=reduction, norm=attention_norm, function=attention_function, zero_cell=zero_cell
    )
    complete = SHARING_RANGES[sharing_range](read_plan(plan, default))
    plain = {
        layer: find_layer(module, layer)
        for warehouse in complete.values()
        for layer in warehouse.layers
    }
    shapes = {layer: kernel_shape(old) for layer, old in plain.items()}
    warehouses, replaced = Warehouses(), {}
    plans = complete if partition else of_equal_kernels(complete, shapes)
    cut_plans = {name: _cut(name, one, shapes, partition) for name, one in plans.items()}
    _check_basis_ratio(nonlocal_basis_ratio)
    check_attention(
        cut_plans,
        {layer: _in_channels(old) for layer, old in plain.items()},
        reduction=reduction,
        basis=nonlocal_basis_ratio,
        most=max_attention,
    )
    for name, cut_plan in cut_plans.items():
        warehouse, starts = _build_warehouse(name, cut_plan, start)
        warehouses[name] = warehouse.to(plain[cut_plan.plan.layers[0]].weight)
        for layer, cut, begin in zip(cut_plan.plan.layers, cut_plan.partitions, starts):
            branch = _build_attention(
                plain[layer], begin, warehouse.num_cells, nonlocal_basis_ratio, attention
            )
            new = _build_layer(
                plain[layer],
                partition=cut,
                attention=branch,
                warehouses=warehouses,
                warehouse_name=name,
            )
            _init_cells(new, begin, init == 'plain')
            replaced[layer] = new
    if init in ('keep', None):
        _keep_weights(replaced, plain, must=init is not None)
    for layer, new in replaced.items():
        _replace(module, layer, new)
    warehouses.recompute_kernels = assemble_checkpoint
    module.warehouses = warehouses.to(next(iter(plain.values())).weight.device)
    return module


def kw_layers(module: nn.Module) -> dict[str, KWLayer]:
    """The KW layers of a network by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, KWLayer)}


def _cut(
    name: str, plan: WarehousePlan, shapes: dict[str, KernelShape], partition: bool
) -> CutWarehouse:
    kernels = [shapes[layer] for layer in plan.layers]
    try:
        cell = _cell(kernels, plan, partition)
        cuts = [Partition(kernel, *cell) for kernel in kernels]
    except ValueError as error:
        raise ValueError(f'warehouse {name!r}: {error}') from None
    return CutWarehouse.of(name, plan, cuts)


def _build_warehouse(name: str, cut: CutWarehouse, start: str) -> tuple[Warehouse, list[Start]]:
    mixtures = [one.num_mixtures for one in cut.partitions]
    try:
        starts = STARTS[start](mixtures, Fraction(cut.plan.budget))
    except ValueError as error:
        raise ValueError(f'warehouse {name!r}: {error}') from None
    first = cut.partitions[0]
    return Warehouse(cut.num_cells, first.cell_shape, first.cell_size), starts


def _cell(
    kernels: Sequence[KernelShape], plan: WarehousePlan, partition: bool
) -> tuple[CellShape, CellSize]:
    if not partition:
        return kernels[0][:2], kernels[0][2:]
    _check_common_channels(kernels)
    return common_cell(kernels, plan.cell_ratio), (1, 1)


def _check_common_channels(kernels: Sequence[KernelShape]) -> None:
    """Check that channels share a divisor: else cells are single channels, and attention immense.

    Raises:
        ValueError: They do not; it names them.
    """
    for side, channels in zip(('output', 'input'), zip(*kernels)):
        if math.gcd(*channels) == 1 and max(channels) > 1:
            raise ValueError(
                f'its layers share no cell: no number above 1 divides all their {side} channels '
                f'({", ".join(map(str, sorted(set(channels))))}); put layers in one warehouse '
                'whose channels have a large common divisor'
            )


def _in_channels(layer: PlainLayer) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _check_basis_ratio(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise ValueError(
            f'nonlocal_basis_ratio must be in (0, 1], got nonlocal_basis_ratio={ratio!r}; '
            '1 is full attention, the published R50 1/2x has 1/16'
        )


def _build_attention(
    plain: PlainLayer, start: Start, cells: int, basis_ratio: float, options: dict[str, Any]
) -> KernelAttention:
    channels = _in_channels(plain)
    if basis_ratio == 1 or start.num_cells == cells:
        return KernelAttention(channels, start, cells, **options)
    return ReducedKernelAttention(
        channels, start, cells, nonlocal_basis_ratio=basis_ratio, **options
    )


def _build_layer(plain: PlainLayer, **options: Any) -> KWLayer:
    new: KWLayer
    options['bias'] = plain.bias
    if isinstance(plain, nn.Linear):
        new = KWLinear(plain.in_features, plain.out_features, **options)
    else:
        new = CONVS_BY_DIMENSIONS[len(plain.kernel_size)](
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            plain.stride,
            plain.padding,
            plain.dilation,
            plain.groups,
            **options,
        )
    return new.to(plain.weight).train(plain.training)


@torch.no_grad()
def _init_cells(layer: KWLayer, start: Start, plain: bool) -> None:
    own = slice(start.first_cell, start.first_cell + start.num_cells)
    kaiming_cells_(layer.warehouse.cells[own], math.prod(layer.warehouse.cell_size))
    if plain:
        layer.place_kernel(kaiming_kernel(layer.partition.kernel_shape))


def _keep_weights(layers: dict[str, KWLayer], plain: dict[str, PlainLayer], must: bool) -> None:
    """Let layers begin as the plain ones that they replace."""
    try:
        start = plain_start(layers, {name: layer.weight for name, layer in plain.items()})
    except ValueError as error:
        if must:
            raise ValueError(f"init='keep' cannot keep the network's weights: {error}") from error
        logger.warning('random values replace the weights of the network: %s', error)
        return
    start.write(layers)
    if start.errors:
        logger.info('%s', start)


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(module.get_submodule(parent), child, new)
