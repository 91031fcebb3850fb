"""From a config and a checkpoint to a checked file."""

import copy
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn

from ..building import build_model
from ..checkpoints.loading import load_model_state, read_model_checkpoint
from ..checkpoints.state_dicts import under_prefix
from ..errors import CheckpointError, UserError, one_line
from ..files import atomic_write, check_file
from ..run_config import load_config
from .comparison import Row, compare, compare_exactly
from .formats import check_format, runner, write
from .parts import BackbonePart, DetectorPart, make_static

PART_CLASSES = {'backbone': BackbonePart, 'detector': DetectorPart}
SIZE = (256, 320)  # a P7 of 2 x 3 pixels
LARGER_BY = (37, 70)  # the second size that is compared: no multiple of a stride
AS_CLOSE = 4  # times PyTorch's own rounding is a file's, which rounds in another order
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
    """Write a part of a network into a file that computes what PyTorch does.

    The file is compared with PyTorch on batches of 1, 2 and 3 and two sizes.

    Args:
        config: Config file.
        checkpoint: Its weights, in any layout.
        to: 'onnx', 'torchscript' or 'exported-program'.
        path: The file to write; it appears only when it has passed.
        part: 'backbone' or 'detector'.
        opset: Of ONNX.
        size: (height, width) of the example; the file takes any other, too.
        tolerance: Largest deviation that passes, relative to an output's largest value. Where a
            file deviates by more, it passes if it is about as close to PyTorch in float64 as
            PyTorch in float32 is.

    Raises:
        UserError: What cannot be read or written, or a file that differs from PyTorch; it is kept
            under another name then.
    """
    check_format(to, opset)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(
            f'--output: folder {folder!r} for {path!r} does not exist; make it, or name another'
        )
    check_file(path, '--output')
    if min(size) < 1:
        raise UserError(
            f'both sides of an image must be positive, got size={size[0]} {size[1]}; '
            f'use for example {SIZE[0]} {SIZE[1]}'
        )
    cfg = load_config(config)
    network = _load(cfg, checkpoint, part).eval().requires_grad_(False)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    outputs = _try_out(network, images)
    names = network.names(outputs)
    simple = copy.deepcopy(network)
    layers = make_static(simple)
    with atomic_write(path) as draft:
        write(simple, images, draft, to, names=names, about=_about(cfg, names), opset=opset)
        rows = _compare(network, draft, to, size, tolerance)
        worst = max(rows or [], key=lambda row: _excess(row, tolerance), default=None)
        if worst and not _excess(worst, tolerance) <= tolerance:
            os.replace(draft, kept := _deviating(path))
            raise UserError(_advice(worst, kept, tolerance))
    return Exported({name: tuple(out.shape) for name, out in zip(names, outputs)}, layers, rows)


def _load(cfg: Config, checkpoint: str, part: str) -> nn.Module:
    """The part with its weights; of a backbone, the checkpoint's other weights do not matter."""
    model = build_model(cfg)
    network = PART_CLASSES[part](model)
    content = read_model_checkpoint(checkpoint)
    try:
        if part == 'backbone':
            weights = under_prefix(content['state_dict'], 'backbone.')
            content, model = dict(state_dict=weights), network.backbone
        load_model_state(model, content, checkpoint, logger='silent')
    except CheckpointError as error:
        raise CheckpointError(f'config {cfg.filename!r}: {error}') from error
    return network


@torch.no_grad()
def _try_out(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    try:
        return network(images)
    except RuntimeError as error:
        raise UserError(
            f'the network does not run on images of {images.shape[2]} x {images.shape[3]} '
            f'({one_line(error)[:200]}); use for example --size {SIZE[0]} {SIZE[1]}'
        ) from error


def _about(cfg: Config, names: Sequence[str]) -> dict[str, Any]:
    """What a user of the file must know: how images are preprocessed, and what comes out."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    keys = ('mean', 'std', 'bgr_to_rgb', 'to_rgb', 'pad_size_divisor')
    return dict(
        outputs=list(names),
        preprocessing={key: preprocessor[key] for key in keys if key in preprocessor},
    )


def _compare(
    network: nn.Module, path: str, to: str, size: Sequence[int], tolerance: float
) -> list[Row] | None:
    """With PyTorch in float32 and, if that is further away than tolerated, in float64."""
    if to in OPTIONAL and not find_spec(OPTIONAL[to]):
        return None
    larger = tuple(side + more for side, more in zip(size, LARGER_BY))
    sizes, run = (tuple(size), larger), runner(path, to)
    rows = compare(network, run, sizes)
    if all(row.deviation <= tolerance for row in rows):
        return rows
    return compare_exactly(network, run, sizes)


def _excess(row: Row, tolerance: float) -> float:
    """How far a file deviates, beyond what PyTorch's own rounding explains; 0 tolerates none."""
    explained = row.rounding is not None and row.deviation <= AS_CLOSE * row.rounding
    explained = explained and tolerance > 0
    return 0 if explained else row.deviation


def _deviating(path: str) -> str:
    """Where a file that did not pass is kept."""
    stem, ending = os.path.splitext(path)
    return f'{stem}.deviating{ending}'


def _advice(worst: Row, kept: str, tolerance: float) -> str:
    return (
        f'the file differs from PyTorch by {worst.deviation:.1e} of the largest value '
        f'(batch {worst.batch}, {worst.size[0]} x {worst.size[1]}), more than '
        f'tolerance={tolerance:g}, where PyTorch in float32 differs from float64 by '
        f'{worst.rounding:.1e}; it was kept as {kept!r}: judge it by the results of your task, '
        f'allow it with --tolerance {2 * worst.deviation:.0e}, or try another --to'
    )
