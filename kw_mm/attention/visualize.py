"""Drawing attention from command-line arguments."""

import re
from argparse import Namespace
from pathlib import Path

from mmengine.device import get_device
from torch import nn

from ..building import build_model
from ..checkpoints.loading import load_weights
from ..command_line import check_checkpoint
from ..errors import CheckpointError, UserError
from ..files import check_folder
from ..run_config import load_config
from ..validation import few
from ..warehouse import kw_layers
from .recording import record_attention
from .report_page import Checkpoint, write_attention_report
from .samples import Sample, file_samples, validation_samples
from .statistics import mean_summary


def visualize_attention(args: Namespace) -> Path:
    """Draw as ``tools/visualize_attention.py`` was told.

    Args:
        args: ``config``; ``checkpoint``, a file or a work dir, and earlier ``checkpoints``;
            ``images``, or how large a ``number`` of the validation set; the folder ``out``; and
            ``cfg_options``.

    Returns:
        Path: The page with all pictures.

    Raises:
        UserError: What cannot be drawn or read, in one sentence.
    """
    if args.number < 1:
        raise UserError(f'--number must be positive, got --number {args.number}; use for example 8')
    cfg = load_config(args.config, args.cfg_options)
    check_folder(args.out, '--out')
    checkpoints = [*args.checkpoints, *find_checkpoints(args.checkpoint)]
    for path in checkpoints:
        check_checkpoint(path)
    model = build_model(cfg)
    if not kw_layers(model):
        raise UserError(
            f'the model of config {args.config!r} has no warehouses to look into; give one with a '
            'KW backbone, e.g. configs/mask_rcnn_kw_r50_1x_coco.py'
        )
    problems: list[str] = []
    samples = (
        file_samples(cfg, args.images, problems)
        if args.images
        else validation_samples(cfg, args.number)
    )
    recorded = []
    for path in checkpoints:
        try:
            recorded.append(_record(model, path, samples))
        except CheckpointError as error:  # the others of a work dir are worth drawing
            problems.append(str(error))
    if not recorded:
        raise UserError(few(problems))
    title = f'Attention of {Path(args.config).stem}'
    page = write_attention_report(args.out, title, recorded, samples)
    means = mean_summary(recorded[-1].warehouses)
    print(f'mean of {recorded[-1].name}:', ', '.join(f'{k} {v:.3f}' for k, v in means.items()))
    if problems:
        raise UserError(f'{page} is without what could not be read: {few(problems)}')
    return page


def find_checkpoints(path: str) -> list[str]:
    """The checkpoints at a path, in the order of training.

    Args:
        path: A work dir with ``epoch_*.pth`` or ``iter_*.pth``, or a single file.

    Raises:
        UserError: A folder without any.
    """
    if not Path(path).is_dir():
        return [path]
    numbered = [
        (int(match.group(2)), str(file))
        for file in Path(path).glob('*.pth')
        for match in [re.fullmatch(r'(epoch|iter)_(\d+)', file.stem)]
        if match
    ]
    if not numbered:
        raise UserError(f'no checkpoint epoch_*.pth or iter_*.pth in {path!r}')
    return [file for _, file in sorted(numbered)]


def _record(model: nn.Module, path: str, samples: list[Sample]) -> Checkpoint:
    load_weights(model, path, map_location=get_device())
    return Checkpoint(Path(path).stem, record_attention(model, samples))
