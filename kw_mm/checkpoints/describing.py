"""State dicts in words, for error messages."""

from .architectures import architectures, dynamic_conv
from .layouts import LAYOUTS, PUBLISHED_CELLS, Entries, layout_of


def describe_weights(entries: Entries, reference: tuple[float, Entries] | None = None) -> str:
    """A backbone's weights in words: architecture, layout, and how many cells or kernels.

    Args:
        entries: Tensors by name, in any layout.
        reference: (budget, state dict) of a KW network of the same architecture, to tell the budget
            by.
    """
    words = f'{describe_network(entries)} in the {LAYOUTS[layout_of(entries)]} layout'
    conv = dynamic_conv(entries)
    if conv:
        kernels = f' of {conv["num_kernels"]} kernels' if 'num_kernels' in conv else ''
        return f'{words} with {conv["type"]}{kernels}'
    cells = cell_values(entries)
    if not cells:
        return words
    budget, other = reference or (0, {})
    if cell_values(other) and describe_network(other) == describe_network(entries):
        return f'{words} with budget {budget * cells / cell_values(other):.4g}'
    return f'{words} with {cells / 1e6:.2f} M cell values'


def describe_network(entries: Entries) -> str:
    """A network's name, such as 'ResNet-50'; the first keys of one that we do not know."""
    known = (architecture.describe(entries) for architecture in architectures())
    first = ', '.join(list(entries)[:3]) or 'empty'
    return next((words for words in known if words), f'an unknown network ({first}, ...)')


def is_same_network(entries: Entries, own: Entries) -> bool:
    """Whether weights are in words those of a network: same architecture, convolutions, budget.

    Args:
        entries: Tensors by name, in any layout; plain ones may start any network.
        own: A network's own.
    """
    return (
        describe_network(entries) == describe_network(own)
        and dynamic_conv(entries) in (None, dynamic_conv(own))
        and cell_values(entries) in (0, cell_values(own))
    )


def cell_values(entries: Entries) -> int:
    """Number of values in all cells, in our layout or the published one."""
    return sum(
        value.numel()
        for key, value in entries.items()
        if key.startswith(PUBLISHED_CELLS)
        or (key.startswith('warehouses.') and key.endswith('.cells'))
    )
