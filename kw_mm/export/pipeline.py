"""From a config and a checkpoint to a checked file."""

import copy
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..checkpoints.reading import read_checkpoint
from ..checkpoints.state_dicts import for_openmmlab, under_prefix
from ..errors import CheckpointError, UserError
from ..models.building import build_model
from ..run_config import load_config
from .comparison import Row, compare
from .formats import FORMATS, check_format, runner, write
from .parts import BackbonePart, DetectorPart
from .plain import make_static

PARTS = {'backbone': BackbonePart, 'detector': DetectorPart}
SIZE, OTHER = (
    (256, 320),
    (37, 70),
)  # P7 of 2 x 3 pixels; and what the second size has more, no multiple of a stride
OPTIONAL = dict(onnx='onnxruntime')


class Exported(NamedTuple):
    """What was written.

    Args:
        outputs: Names and shapes for the example.
        static_layers: KW layers written as plain ones, since they were at temperature 1.
        rows: Comparison with PyTorch; None where nothing is installed to run the file.
    """

    outputs: dict[str, tuple[int, ...]]
    static_layers: int
    rows: list[Row] | None


def export(
    config: str,
    checkpoint: str,
    to: str,
    path: str,
    *,
    part: str = 'backbone',
    opset: int = 20,
    size: Sequence[int] = SIZE,
    tolerance: float = 1e-4,
) -> Exported:
    """Write a part of a network into a file, and compare the file with PyTorch on batches of 1, 2, 3 and two sizes.

    Args:
        config: Config file.
        checkpoint: Its weights, in any layout.
        to: 'onnx', 'torchscript' or 'exported-program'.
        path: The file to write; it appears only when it has passed.
        part: 'backbone' or 'detector'.
        opset: Of ONNX.
        size: (height, width) of the example; the file takes any other, too.
        tolerance: Largest deviation that passes, relative to an output's largest value.

    Raises:
        UserError: What cannot be read or written, or a file that differs from PyTorch.
    """
    check_format(to, opset)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f'folder {folder!r} for {path!r} does not exist')
    if os.path.isdir(path):
        raise UserError(f'{path!r} is a folder; name a file in it')
    if min(size) < 1:
        raise UserError(
            f'size={size[0]} {size[1]} is no size of an image; use for example {SIZE[0]} {SIZE[1]}'
        )
    cfg = load_config(config)
    network = _load(cfg, checkpoint, part).eval().requires_grad_(False)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    outputs = _try_out(network, images)
    names = network.names(outputs)
    simple = copy.deepcopy(network)
    layers = make_static(simple)
    draft = f'{path}.part.{FORMATS[to]}'
    try:
        write(simple, images, draft, to, names=names, about=_about(cfg, names), opset=opset)
        rows = _check(network, draft, to, size, tolerance)
        os.replace(draft, path)
    finally:
        if os.path.exists(draft):
            os.remove(draft)
    return Exported({name: tuple(out.shape) for name, out in zip(names, outputs)}, layers, rows)


def _load(cfg: Config, checkpoint: str, part: str) -> nn.Module:
    model = build_model(cfg)
    network = PARTS[part](model)
    content = for_openmmlab(read_checkpoint(checkpoint))['state_dict']
    try:
        if part == 'backbone':
            network.backbone.load_state_dict(under_prefix(content, 'backbone.'))
        else:
            load_state_dict(model, content, strict=True, logger='silent')
    except (CheckpointError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f'checkpoint {checkpoint!r} does not fit the model of {cfg.filename!r}: '
            f'{" ".join(lines[-2:])[:400]}'
        ) from error
    return network


@torch.no_grad()
def _try_out(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    try:
        return network(images)
    except RuntimeError as error:
        raise UserError(
            f'the network does not run on images of {images.shape[2]} x {images.shape[3]}: {error}'
        ) from error


def _about(cfg: Config, names: Sequence[str]) -> dict[str, Any]:
    """What a user of the file must know: how images are preprocessed, and what comes out."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    keys = ('mean', 'std', 'bgr_to_rgb', 'to_rgb', 'pad_size_divisor')
    return dict(
        outputs=list(names),
        preprocessing={key: preprocessor[key] for key in keys if key in preprocessor},
    )


def _check(
    network: nn.Module, path: str, to: str, size: Sequence[int], tolerance: float
) -> list[Row] | None:
    if to in OPTIONAL and not find_spec(OPTIONAL[to]):
        return None
    larger = tuple(side + more for side, more in zip(size, OTHER))
    rows = compare(network, runner(path, to), (tuple(size), larger))
    worst = max(rows, key=lambda row: row.deviation)
    if not worst.deviation <= tolerance:
        raise UserError(
            f'the file differs from PyTorch by {worst.deviation:.1e} of the largest value (batch {worst.batch}, '
            f'{worst.size[0]} x {worst.size[1]}), more than tolerance={tolerance:g}; it was not kept'
        )
    return rows
