"""Pictures of detections."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer


class Drawing:
    """mmdet's visualizer, drawing the same picture the same way each time.

    Args:
        classes: Names by label.
        palette: Colours by label as mmdet takes them, or None.
        score_thr: Detections with a score of this or less are left out.
    """

    def __init__(self, classes: Sequence[str], palette: Any = None, score_thr: float = 0.3) -> None:
        self.visualizer = DetLocalVisualizer(name='kw_mm predictions', alpha=0.5)
        self.visualizer.dataset_meta = dict(classes=classes, palette=palette)
        self.score_thr = score_thr

    def __call__(self, image: np.ndarray, sample: DetDataSample) -> np.ndarray:
        """An image (H, W, 3) in BGR with boxes, masks, class names and scores in percent."""
        with _settled():
            self.visualizer.add_datasample(
                '', image[..., ::-1], sample, draw_gt=False, pred_score_thr=self.score_thr
            )
        return self.visualizer.get_image()[..., ::-1]


@contextmanager
def _settled() -> Iterator[None]:
    """mmdet varies the colours of masks at random, and warns of each box that touches the border."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*out of bounds')
            yield
    finally:
        np.random.set_state(state)
