"""COCO's evaluation computed by faster-coco-eval, in place of pycocotools' loops in Python.

faster-coco-eval (https://github.com/MiXaiLL76/faster_coco_eval) matches and accumulates in C++. Two
things stay as pycocotools does them, so that all numbers are equal to the last bit: what is made
of precisions and recalls (AP is taken at 100 detections per image whatever ``maxDets`` is), and
1 / (1 + 2.2e-16) as the precision of a single right detection.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
from pycocotools.cocoeval import COCOeval

from ..validation import check_choice

PYCOCOTOOLS, FAST = 'pycocotools', 'faster-coco-eval'
BACKENDS = ('auto', PYCOCOTOOLS, FAST)
PARAMETERS = ('imgIds', 'catIds', 'maxDets', 'iouThrs', 'areaRng', 'areaRngLbl', 'useCats')


class FastCOCOeval(COCOeval):
    """pycocotools' ``COCOeval`` with precisions and recalls from faster-coco-eval.

    As in the parent, ``eval['precision']`` has the shape (IoU thresholds, recalls, categories,
    ranges of areas, numbers of detections), ``eval['recall']`` the same without the recalls.
    """

    def evaluate(self) -> None:
        """Match detections to the ground truth and accumulate, both at once."""
        from faster_coco_eval import COCO, COCOeval_faster

        evaluator = COCOeval_faster(
            COCO(self.cocoGt.dataset), COCO(self.cocoDt.dataset), self.params.iouType
        )
        for name in PARAMETERS:
            setattr(evaluator.params, name, getattr(self.params, name))
        objects = self._objects()
        # Two right detections have a recall above 1.5 / objects, a single one has less.
        two = 1.5 / np.maximum(objects, 1)
        evaluator.params.recThrs = np.unique([*self.params.recThrs, *two.flat])
        evaluator.evaluate()
        evaluator.accumulate()
        for name in ('imgIds', 'catIds', 'maxDets'):
            setattr(self.params, name, getattr(evaluator.params, name))
        place = partial(np.searchsorted, evaluator.params.recThrs)
        precision = evaluator.eval['precision'].reshape(self._shape(len(evaluator.params.recThrs)))
        at_two = np.take_along_axis(precision, place(two)[None, None, :, :, None], axis=1)
        precision = np.where((precision == 1) & (at_two < 1), 1 / (1 + np.spacing(1)), precision)
        self.eval = dict(
            precision=precision[:, place(self.params.recThrs)],
            recall=evaluator.eval['recall'].reshape(self._shape()),
        )

    def accumulate(self, p=None) -> None:
        """Nothing is left to do: :meth:`evaluate` does both."""

    def _objects(self) -> np.ndarray:
        """How many annotations count, by category and range of areas."""
        p = self.params
        categories = np.unique(p.catIds) if p.useCats else [-1]
        areas: dict[int, list[float]] = {category: [] for category in categories}
        for annotation in self.cocoGt.loadAnns(
            self.cocoGt.getAnnIds(imgIds=p.imgIds, catIds=p.catIds, iscrowd=False)
        ):
            areas[annotation['category_id'] if p.useCats else -1].append(annotation['area'])
        return np.array(
            [
                [sum(low <= area <= high for area in areas[category]) for low, high in p.areaRng]
                for category in categories
            ]
        )

    def _shape(self, *recalls: int) -> tuple:
        p = self.params
        return (
            len(p.iouThrs),
            *recalls,
            len(p.catIds) if p.useCats else 1,
            len(p.areaRng),
            len(p.maxDets),
        )


def choose_backend(backend: str, use_mp_eval: bool = False) -> str:
    """The backend to use.

    Args:
        backend: One of :data:`BACKENDS`; 'auto' is faster-coco-eval where it is installed.
        use_mp_eval: Whether to evaluate in several processes, as mmdet can with pycocotools.

    Raises:
        ValueError: An unknown backend, or one that cannot work in several processes.
        ImportError: The backend is not installed.
    """
    check_choice('backend', backend, BACKENDS)
    installed = find_spec('faster_coco_eval') is not None
    if backend == 'auto':
        return FAST if installed and not use_mp_eval else PYCOCOTOOLS
    if backend == FAST and use_mp_eval:
        raise ValueError(
            f'use_mp_eval=True works with pycocotools only; leave it out for backend={FAST!r}'
        )
    if backend == FAST and not installed:
        raise ImportError(
            f'backend={FAST!r} is not installed (pip install faster-coco-eval); '
            "backend='auto' uses it where it is"
        )
    return backend
