"""Analysing configs: what their models cost, how their warehouses are laid out, and tables of it.

The layout of warehouses is what the paper's Tables 14 (n and m) and 15 (which layers share) show.
"""

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Column, Table
from torch import nn

from ..building import build_model
from ..errors import UserError
from ..run_config import load_config
from ..warehouse import kw_layers
from .complexity import Cost, count_costs, forward_once

CLASSIFIER_SIZE, DETECTOR_SIZE = (224, 224), (800, 1280)
PIPE_WIDTH = 160  # rich would cut names for 80 columns
COSTS = ('parameters (M)', 'multiply-adds (G): static', 'attention', 'assembly', 'all')
WAREHOUSE = ('cell', 'm', 'n', 'layers (m of each)')


class WarehouseRow(NamedTuple):
    """How one warehouse is laid out.

    Args:
        name: Its name in the sharing plan.
        cell: (output, input, height, width) of a cell.
        num_mixtures: m_t, of all layers that draw on it.
        num_cells: n.
        layers: m of each of these layers, in network order.
    """

    name: str
    cell: tuple[int, int, int, int]
    num_mixtures: int
    num_cells: int
    layers: dict[str, int]


class Analysis(NamedTuple):
    """What a config's model costs and how its warehouses are laid out.

    Args:
        name: Of the config.
        size: (height, width) of the image.
        parts: Costs of backbone, neck, heads.
        warehouses: All of them.
    """

    name: str
    size: tuple[int, int]
    parts: dict[str, Cost]
    warehouses: list[WarehouseRow]

    @property
    def cost(self) -> Cost:
        """Of the whole model."""
        return sum(self.parts.values(), Cost())


def analyze(path: str, size: Sequence[int] | None = None) -> Analysis:
    """Analyse the model of a config file.

    Args:
        path: The config file.
        size: (height, width) of the image; default 224 x 224, and 800 x 1280 for mmdet's detectors.

    Raises:
        UserError: A config that cannot be read or built, or a size that the model cannot run on.
    """
    cfg = load_config(path)
    model = build_model(cfg)
    size = tuple(
        size or (DETECTOR_SIZE if cfg.get('default_scope') == 'mmdet' else CLASSIFIER_SIZE)
    )
    if min(size) < 1:
        raise UserError(
            f'size must be two positive integers, got {size[0]} {size[1]}; use for example 224 224'
        )
    try:
        parts = count_costs(model, lambda: forward_once(model, size))
    except RuntimeError as error:
        raise UserError(
            f'the model of {path!r} does not run on an image of {size[0]} x {size[1]}: {error}'
        ) from error
    return Analysis(os.path.basename(path), size, parts, describe_warehouses(model))


def analyze_and_print(
    paths: Sequence[str], size: Sequence[int] | None = None, *, markdown: bool = False
) -> None:
    """Analyse configs and print what they are; one that cannot be analysed ends it last.

    Args:
        paths: The config files.
        size, markdown: As in :func:`analyze` and :func:`print_analyses`.

    Raises:
        UserError: Names the configs that could not be analysed, after the others are printed.
    """
    analyses, problems = [], []
    for path in paths:
        try:
            analyses.append(analyze(path, size))
        except UserError as error:
            problems.append(str(error))
    if analyses:
        print_analyses(analyses, markdown)
    if problems:
        raise UserError('; '.join(problems))


def describe_warehouses(model: nn.Module) -> list[WarehouseRow]:
    """How all warehouses of a model are laid out, in the order of their plans.

    Args:
        model: A network with warehouses, or one with such networks inside; names of layers are
            those in this model.
    """
    return [
        row
        for prefix, module in model.named_modules()
        if hasattr(module, 'warehouses')
        for row in _rows(f'{prefix}.' if prefix else '', module)
    ]


def print_analyses(analyses: Sequence[Analysis], markdown: bool = False) -> None:
    """Print one table of all configs, and for each one of its parts and one of its warehouses.

    Args:
        analyses: At least one.
        markdown: As Markdown; otherwise for the terminal.
    """
    show = print_markdown if markdown else print_rich
    show(
        ['config', *COSTS],
        [[f'{one.name}, {one.size[0]} x {one.size[1]}', *_numbers(one.cost)] for one in analyses],
    )
    for one in analyses:
        show(
            [f'part of {one.name}', *COSTS],
            [[name, *_numbers(cost)] for name, cost in one.parts.items()],
        )
        if one.warehouses:
            show([f'warehouse of {one.name}', *WAREHOUSE], [_text(row) for row in one.warehouses])


def print_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for cells in (header, ['---'] * len(header), *rows):
        print(f'| {" | ".join(cells)} |')
    print()


def print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; cells that are too long are folded."""
    table = Table(*(Column(title, overflow='fold') for title in header), box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _rows(prefix: str, module: nn.Module) -> list[WarehouseRow]:
    rows = []
    for name, warehouse in module.warehouses.items():
        layers = {
            prefix + key: layer.partition.num_mixtures
            for key, layer in kw_layers(module).items()
            if layer.warehouse_name == name
        }
        cell = (*warehouse.cell_shape, *warehouse.cell_size)
        rows.append(WarehouseRow(name, cell, sum(layers.values()), warehouse.num_cells, layers))
    return rows


def _numbers(cost: Cost) -> list[str]:
    counts = (cost.static, cost.attention, cost.assembly, cost.multiply_adds)
    return [f'{cost.parameters / 1e6:.2f}', *(f'{count / 1e9:.4f}' for count in counts)]


def _text(row: WarehouseRow) -> list[str]:
    layers = ', '.join(f'{name} ({m})' for name, m in row.layers.items())
    return [
        row.name,
        ' x '.join(map(str, row.cell)),
        str(row.num_mixtures),
        str(row.num_cells),
        layers,
    ]
