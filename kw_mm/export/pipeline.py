"""From a config and a checkpoint to a checked file."""

import copy
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..building import build_model
from ..checkpoints.loading import load_model_state, read_model_checkpoint
from ..checkpoints.state_dicts import under_prefix
from ..errors import CheckpointError, UserError, one_line
from ..files import atomic_write, check_file
from ..inference.class_names import dataset_meta
from ..run_config import load_config, tested_dataset, walk_transforms
from .comparison import Row, compare, compare_exactly
from .detection_comparison import DetectionRow, compare_detections, pictures_for
from .formats import check_format, runner, write
from .parts import BackbonePart, MapsPart, make_static
from .request import SIZE, Options

AS_CLOSE = 4  # times PyTorch's own rounding is a file's, which rounds in another order
OPTIONAL = dict(onnx='onnxruntime')
PREPROCESSING = (
    'mean',
    'std',
    'bgr_to_rgb',
    'rgb_to_bgr',
    'to_rgb',
    'pad_size_divisor',
    'pad_value',
)


class Exported(NamedTuple):
    """What was written.

    Args:
        outputs: Names and shapes for the example.
        static_layers: KW layers written as plain ones, since their attention was constant.
        rows: Comparison with PyTorch; None where nothing is installed to run the file.
    """

    outputs: dict[str, tuple[int, ...]]
    static_layers: int
    rows: Sequence[Row | DetectionRow] | None


class Source(NamedTuple):
    """What is written from.

    Args:
        cfg: The config.
        model: Its model with the weights.
        network: The part of it that goes into the file.
        classes: Names by label; None where none are known.
    """

    cfg: Config
    model: nn.Module
    network: nn.Module
    classes: tuple[str, ...] | None


def export(config: str, checkpoint: str, to: str, path: str, **options: Any) -> Exported:
    """Write a part of a network into a file that computes what PyTorch does.

    The file is compared with PyTorch on batches of 1, 2 and 3 and two sizes, or on the batch and
    size that it is fixed to.

    Args:
        config: Config file.
        checkpoint: Its weights, in any layout.
        to: 'onnx', 'torchscript' or 'exported-program'.
        path: The file to write; it appears only when it has passed.
        **options: Those of :class:`Options`.

    Raises:
        UserError: What cannot be read or written, or a file that differs from PyTorch; it is kept
            under another name then.
    """
    asked = Options(**options)
    check_format(to, asked.opset)
    asked.check(to)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(
            f'--output: folder {folder!r} for {path!r} does not exist; make it, or name another'
        )
    check_file(path, '--output')
    source = _load(config, checkpoint, asked)
    pictures = pictures_for(source.cfg, asked.pictures) if asked.part == 'detector' else []
    network = source.network
    images = _example(network, asked)
    outputs = _try_out(network, images, asked)
    names = network.names(outputs)
    simple = copy.deepcopy(network)
    layers = make_static(simple)
    with atomic_write(path) as draft:
        write(
            simple,
            images,
            draft,
            to,
            names=names,
            about=_about(source, names, asked, to),
            opset=asked.opset,
            fixed=asked.fixed,
        )
        rows = _compare(source, draft, to, asked, pictures)
        worst = max(rows or [], key=lambda row: _excess(row, asked.tolerance), default=None)
        if worst and not _excess(worst, asked.tolerance) <= asked.tolerance:
            os.replace(draft, kept := _deviating(path))
            raise UserError(_advice(worst, kept, asked.tolerance))
    return Exported({name: tuple(out.shape) for name, out in zip(names, outputs)}, layers, rows)


def _load(config: str, checkpoint: str, asked: Options) -> Source:
    """A model with its weights; of a backbone, the checkpoint's other weights do not matter."""
    cfg = load_config(config)
    model = build_model(cfg).eval().requires_grad_(False)
    network = _part_of(model, asked)
    content = read_model_checkpoint(checkpoint)
    try:
        if asked.part == 'backbone':
            weights = under_prefix(content['state_dict'], 'backbone.')
            load_model_state(
                network.backbone, dict(state_dict=weights), checkpoint, logger='silent'
            )
        else:
            load_model_state(model, content, checkpoint, logger='silent')
    except CheckpointError as error:
        raise CheckpointError(f'config {cfg.filename!r}: {error}') from error
    return Source(cfg, model, network, _class_names(cfg, content))


def _part_of(model: nn.Module, asked: Options) -> nn.Module:
    if asked.part == 'detector':
        from .detections import DetectionsPart  # its operators need a newer torch than the others

        return DetectionsPart(model, with_preprocessing=asked.with_preprocessing)
    return {'backbone': BackbonePart, 'maps': MapsPart}[asked.part](model)


def _class_names(cfg: Config, checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    try:
        return dataset_meta(cfg, checkpoint, cfg.get('default_scope', 'mmengine'))['classes']
    except UserError:
        return None


def _example(network: nn.Module, asked: Options) -> Tensor:
    batch, height, width = asked.example
    if asked.with_preprocessing:
        return torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _try_out(network: nn.Module, images: Tensor, asked: Options) -> tuple[Tensor, ...]:
    try:
        return network(images)
    except RuntimeError as error:
        _, height, width = asked.example
        raise UserError(
            f'the network does not run on images of {height} x {width} '
            f'({one_line(error)[:200]}); use for example --size {SIZE[0]} {SIZE[1]}'
        ) from error


def _about(source: Source, names: Sequence[str], asked: Options, to: str) -> dict[str, Any]:
    """What a user of the file must know: what goes in, and what comes out."""
    cfg = source.cfg
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    about = dict(
        kw_mm=_own_version(),
        torch=torch.__version__,
        part=asked.part,
        input=dict(
            name='images',
            layout='NHWC, uint8, BGR' if asked.with_preprocessing else 'NCHW, float32',
            preprocessed=not asked.with_preprocessing,
            batch=asked.static_batch or 'any',
            size=list(asked.static_size) if asked.static_size else 'any',
        ),
        outputs=list(names),
        **(dict(opset=asked.opset) if to == 'onnx' else {}),
        preprocessing={key: preprocessor[key] for key in PREPROCESSING if key in preprocessor},
    )
    if (resize := _resize(cfg)) is not None:
        about['resize'] = resize
    if source.classes:
        about['classes'] = list(source.classes)
    if asked.part == 'detector':
        about['detections'] = source.network.contract(names)
    return about


def _resize(cfg: Config) -> dict[str, Any] | None:
    """What test images are resized to.

    Returns:
        dict: ``size``, (width, height), and ``keep_ratio``: whether images are fitted into it,
        upright or across, or get that very size. None where they are not resized to one size.
    """
    for step in walk_transforms(tested_dataset(cfg).get('pipeline')):
        scale = step.get('scale')
        if str(step['type']).endswith('Resize') and scale:
            size = list(scale) if isinstance(scale, (tuple, list)) else [scale, scale]
            return dict(size=size, keep_ratio=bool(step.get('keep_ratio')))
    return None


def _own_version() -> str:
    try:
        return version('kw_mm')
    except PackageNotFoundError:  # a checkout that is only on the path
        return 'unknown'


def _compare(
    source: Source, path: str, to: str, asked: Options, pictures: Sequence[Any]
) -> Sequence[Row | DetectionRow] | None:
    """With PyTorch in float32 and, if that is further away than tolerated, in float64."""
    if to in OPTIONAL and not find_spec(OPTIONAL[to]):
        return None
    run, where = runner(path, to), (asked.sizes, asked.batches)
    if asked.part == 'detector':
        return compare_detections(
            source.model,
            run,
            pictures,
            *where,
            from_pixels=asked.with_preprocessing,
            tolerance=asked.tolerance,
        )
    rows = compare(source.network, run, *where)
    if all(row.deviation <= asked.tolerance for row in rows):
        return rows
    return compare_exactly(source.network, run, *where)


def _excess(row: Row | DetectionRow, tolerance: float) -> float:
    """How far a file deviates, beyond what PyTorch's own rounding explains; 0 tolerates none."""
    if isinstance(row, DetectionRow):
        return row.excess()
    explained = row.rounding is not None and row.deviation <= AS_CLOSE * row.rounding
    explained = explained and tolerance > 0
    return 0 if explained else row.deviation


def _deviating(path: str) -> str:
    """Where a file that did not pass is kept."""
    stem, ending = os.path.splitext(path)
    return f'{stem}.deviating{ending}'


def _advice(worst: Row | DetectionRow, kept: str, tolerance: float) -> str:
    where = f'(batch {worst.batch}, {worst.size[0]} x {worst.size[1]})'
    if isinstance(worst, DetectionRow):
        return (
            f'the file differs from PyTorch {where}: {worst.missing} of {worst.detections} '
            f'detections are in one of both only, the others differ by up to {worst.box:.1e} '
            f'pixels and {worst.score:.1e} in score, and masks overlap by {worst.mask_iou:.4f} at '
            f'least, which is beyond tolerance={tolerance:g}; it was kept as {kept!r}: judge it by '
            'the results of your task, or allow more with --tolerance'
        )
    return (
        f'the file differs from PyTorch by {worst.deviation:.1e} of the largest value {where}, '
        f'more than tolerance={tolerance:g}, where PyTorch in float32 differs from float64 by '
        f'{worst.rounding:.1e}; it was kept as {kept!r}: judge it by the results of your task, '
        f'allow it with --tolerance {2 * worst.deviation:.0e}, or try another --to'
    )
