"""A whole training iteration of Mask R-CNN, with a KW backbone and with the plain one.

Images and instances are random, of the sizes that the real pipeline gives; forward, losses,
backward and the optimizer's step are in the time.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmdet.testing import demo_mm_inputs
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from ..config_files import config
from ..run_config import load_config
from .gpu_benchmarking import markdown, take_turns

DETECTORS = ('mask_rcnn_r50_1x_coco', 'mask_rcnn_kw_r50_1x_coco')  # plain first
INSTANCES = [7, 8]  # COCO's mean is 7.3 an image


class Iteration(NamedTuple):
    """One detector's training iteration: milliseconds, and its ratio to the plain one's."""

    name: str
    median: float
    spread: float
    ratio: float


def measure_detectors(
    device: str, dtype: str, repetitions: int, size: tuple[int, int] = (800, 1344)
) -> list[Iteration]:
    """Time a training iteration of each of ``DETECTORS``, taking turns.

    Args:
        device: Where to train.
        dtype: 'float32', or that of mmengine's mixed precision, which needs a GPU.
        repetitions: Timed iterations of each, after a warm-up.
        size: (height, width) of both images.
    """
    steps = [training_step(name, device, dtype, size) for name in DETECTORS]
    for step in steps:
        for _ in range(3 if 'cuda' in device else 1):
            step()
    times = take_turns(steps, repetitions, device)
    medians = [statistics.median(one) for one in times]
    return [
        Iteration(name, median, max(one) - min(one), median / medians[0])
        for name, median, one in zip(DETECTORS, medians, times)
    ]


def training_step(
    name: str, device: str, dtype: str, size: tuple[int, int]
) -> Callable[[], object]:
    """A function that trains a detector from scratch for one iteration on the same two images."""
    cfg = load_config(config(name))
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)
    wrapper = (
        OptimWrapper(optimizer)
        if dtype == 'float32'
        else AmpOptimWrapper(dtype=dtype, optimizer=optimizer)
    )
    classes = model.roi_head.bbox_head.num_classes
    data = demo_mm_inputs(2, (3, *size), num_items=INSTANCES, num_classes=classes, with_mask=True)
    return lambda: model.train_step(data, wrapper)


def detector_table(found: list[Iteration]) -> str:
    """What was measured, a row each."""
    rows = [[one.name, *(f'{value:.2f}' for value in one[1:])] for one in found]
    return markdown(['detector', 'ms', 'spread', 'ratio'], rows)
