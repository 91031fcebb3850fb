"""Drawing attention from command-line arguments."""

import os
from argparse import Namespace
from pathlib import Path

from mmengine.device import get_device
from torch import nn

from ..checkpoints.loading import load_weights
from ..command_line import check_checkpoint
from ..errors import UserError
from ..models.building import build_model
from ..run_config import load_config
from .of_images import attention_of, check_warehouses, find_checkpoints
from .report_page import Checkpoint, write_attention_report
from .samples import Sample, file_samples, validation_samples


def visualize_attention(args: Namespace) -> Path:
    """Draw as ``tools/visualize_attention.py`` was told.

    Returns:
        Path: The page with all pictures.
    """
    if args.number < 1:
        raise UserError(f'--number {args.number} is no number of images; use for example 8')
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise UserError(f'--out {args.out} is a file; name a folder')
    cfg = load_config(args.config, args.cfg_options)
    checkpoints = [*args.checkpoints, *find_checkpoints(args.checkpoint)]
    for path in checkpoints:
        check_checkpoint(path)
    model = build_model(cfg)
    check_warehouses(model, args.config)
    samples = (
        file_samples(cfg, args.images) if args.images else validation_samples(cfg, args.number)
    )
    found = [_look(model, path, samples) for path in checkpoints]
    title = f'Attention of {os.path.splitext(os.path.basename(args.config))[0]}'
    return write_attention_report(args.out, title, found, samples)


def _look(model: nn.Module, path: str, samples: list[Sample]) -> Checkpoint:
    load_weights(model, path, map_location=get_device())
    return Checkpoint(Path(path).stem, attention_of(model, samples))
