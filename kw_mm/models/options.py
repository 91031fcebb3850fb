"""The options of every backbone with warehouses."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..ops.branch import Norm
from ..warehouse.budget import Budget
from ..warehouse.sharing import Plan
from .inherited import check_known

# what the network as a whole does, beyond replacing its layers
OF_THE_NETWORK = (
    'sharing',
    'freeze_warehouses',
    'train_attention_in_frozen_stages',
    'temperature',
    'attention_start',
)


@dataclass(frozen=True)
class WarehouseOptions:
    """What a backbone with warehouses can be told about them; the defaults are the paper's.

    Backbones take these as keywords. Where an architecture was published with another value than
    the default here, it is that backbone's default (its docstring says so), and so is ``None``.

    Args:
        budget: b = n / m_t, cells per mixture, of every warehouse for which the plan says nothing
            else.
        sharing: ``{warehouse: [layer names]}``, see :mod:`kw_mm.warehouse.sharing`; default the
            architecture's published plan.
        cell_ratio: (output, input) share of the layers' common channel divisor that a cell takes.
        reduction: Hidden units of an attention branch per input channel (at least 16 units).
        nonlocal_basis_ratio: Below 1, attention to cells of other layers goes through a basis of
            this relative size.
        attention_norm: Normalisation in the attention branches: 'BN1d', 'LN', 'SyncBN', 'none' or
            ``channels -> module``.
        init: 'published', or 'plain': start cells get the values of the plain kernel that they form
            at temperature 1 (budget >= 1).
        freeze_warehouses: What ``frozen_stages`` does to warehouses that frozen layers share:
            'none' (published), 'exclusive' or 'strict', see
            :func:`kw_mm.warehouse.freeze_warehouses`.
        train_attention_in_frozen_stages: Whether attention branches of frozen stages still train
            (not published for KernelWarehouse; FDConv's do).
        temperature: tau to begin with; loaded weights and :class:`AttentionTemperatureHook` may
            change it.
        attention_start: What attention begins with where plain weights are loaded: 'plain' for
            constants with which the network is the plain one at every temperature (with a budget
            below 1, near it), 'published' for the branches as they are built, with which it is the
            plain one at temperature 1 only and needs :class:`AttentionTemperatureHook`.
        attention_function: What turns logits into weights of cells: 'caf' (published), 'softmax',
            'sigmoid', 'relu' or 'caf_unnormalised', see
            :mod:`kw_mm.warehouse.attention_functions`. This option and the next four are those of
            the paper's ablations.
        zero_cell: Whether a zero cell takes attention beside the cells.
        start: Cells that a mixture is made of at temperature 1: 'one_to_one' (published),
            'all_to_all', 'several_cells', 'shared_cell' or 'none', see
            :mod:`kw_mm.warehouse.initialization`.
        partition: False for cells that are whole kernels: every layer is one mixture.
        sharing_range: Layers that share a warehouse: 'stage' (published) for those of the plan,
            'layer' or 'two_stages', see :mod:`kw_mm.warehouse.sharing`.
        assemble_checkpoint: Mix kernels again in the backward pass instead of keeping them. Not
            together with ``with_cp``, which does so by itself.
        max_attention: How many times as many values as the kernels the attention may have; more is
            refused before anything is allocated.
    """

    budget: Budget = 1
    sharing: Plan | None = None
    cell_ratio: tuple[float, float] = (1, 1)
    reduction: float = 1 / 16
    nonlocal_basis_ratio: float = 1
    attention_norm: Norm = 'BN1d'
    init: str = 'published'
    freeze_warehouses: str = 'none'
    train_attention_in_frozen_stages: bool = False
    temperature: float = 0.0
    attention_start: str = 'plain'
    attention_function: str = 'caf'
    zero_cell: bool = True
    start: str = 'one_to_one'
    partition: bool = True
    sharing_range: str = 'stage'
    assemble_checkpoint: bool = False
    max_attention: float = 4

    def of_layers(self) -> dict[str, Any]:
        """The options that :func:`kw_mm.warehouse.apply_kernel_warehouse` takes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if name not in OF_THE_NETWORK}


def collect_options(
    backbone: type, keywords: Mapping[str, Any], *, refused: tuple[str, ...] = (), **published: Any
) -> tuple[WarehouseOptions, dict[str, Any]]:
    """Take the warehouse options out of a backbone's keywords.

    Args:
        backbone: The backbone's class, whose constructors say what other keywords there are.
        keywords: All keywords that the backbone got and does not name itself.
        refused: Options that this backbone does not take, since its published plan has them for
            each warehouse.
        **published: The architecture's own defaults.

    Returns:
        tuple: The options, and the keywords for the class that the backbone derives from.

    Raises:
        TypeError: A keyword that is neither; the message names the nearest one that is.

    Example:
        >>> options, others = collect_options(KWResNet, dict(init='plain', with_cp=True), budget=4)
        >>> options.init, options.budget, others
        ('plain', 4, {'with_cp': True})
    """
    names = [field.name for field in fields(WarehouseOptions) if field.name not in refused]
    check_known(backbone, keywords, names)
    given = {
        name: keywords[name] for name in names if keywords.get(name) is not None
    }  # None: the published default
    others = {name: value for name, value in keywords.items() if name not in names}
    return WarehouseOptions(**{**published, **given}), others
