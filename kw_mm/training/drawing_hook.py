"""Drawing tested images as they were loaded."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.fileio import join_path
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.utils import mkdir_or_exist

from ..errors import UserError
from ..pictures import as_rgb
from .data_checks import parts_of


@HOOKS.register_module(force=True)  # for the name that kw_mm.registration reserves
class KWDetVisualizationHook(DetVisualizationHook):
    """mmdet's ``DetVisualizationHook`` on images that the dataset's own loader has read.

    mmdet's reads them anew, eight bits a channel and turned by EXIF, whatever the pipeline says; a
    mask then may not fit its picture. ``tools/test.py --show-dir`` puts this one into the config.
    Arguments are those of mmdet's.

    Example:
        >>> default_hooks = dict(visualization=dict(type='KWDetVisualizationHook', draw=True))
    """

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        """Draw the first image of a batch, every ``interval`` batches."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(runner.val_dataloader.dataset, outputs[:1], 'val_img', step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any
    ) -> None:
        """Draw every image."""
        if not self.draw:
            return
        if self.test_out_dir is not None:
            self.test_out_dir = join_path(runner.work_dir, runner.timestamp, self.test_out_dir)
            mkdir_or_exist(self.test_out_dir)
        self._draw(runner.test_dataloader.dataset, outputs, 'test_img', None)

    def _draw(self, dataset: Any, samples: Sequence[Any], name: str, step: int | None) -> None:
        load = _loader(dataset)
        for sample in samples:
            if step is None:
                self._test_index += 1
            file = os.path.basename(sample.img_path)
            out = self.test_out_dir and step is None and os.path.join(self.test_out_dir, file)
            self._visualizer.add_datasample(
                file if self.show else name,
                as_rgb(load(sample.img_path)),
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=out or None,
                step=self._test_index if step is None else step,
            )


def _loader(dataset: Any) -> Any:
    """Function: path -> image (H, W) or (H, W, C), by the first loader of a dataset's pipeline."""
    from mmcv.transforms import LoadImageFromFile

    for part in parts_of(dataset):
        for step in getattr(getattr(part, 'pipeline', None), 'transforms', ()):
            if isinstance(step, LoadImageFromFile):

                def load(path: str, step: LoadImageFromFile = step) -> np.ndarray:
                    return step(dict(img_path=path))['img']

                return load
    raise UserError(
        'pictures are drawn as the pipeline of the dataset loads them, and it has no '
        'LoadImageFromFile; leave draw=True and --show-dir out'
    )
