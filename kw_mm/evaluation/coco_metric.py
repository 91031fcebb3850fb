"""COCO evaluation that always gives numbers, and soon."""

import inspect
from types import FunctionType

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from .fast_coco_eval import FAST, FastCOCOeval, choose_backend
from .ground_truth import ids_by_name, integer_ids, prepare_ground_truth, prepare_masks

ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module(force=True)
class KWCocoMetric(CocoMetric):
    """mmdet's COCO metric in less time: the same numbers, by faster-coco-eval if it is installed.

    Labels are those of the class names, whatever order the annotation file lists its categories
    in, and the file may lack ``iscrowd`` or number its annotations from 0
    (:mod:`kw_mm.evaluation.ground_truth`).

    A model that detects nothing at all gets AP 0 instead of an empty result. Early in a training
    from scratch there may be no detection in the whole set. mmdet then returns no metric, and
    whatever reads one (the best checkpoint, curves, early stopping) breaks or goes blind.

    Args:
        *args: As in mmdet's ``CocoMetric``.
        backend: 'auto', 'pycocotools' or 'faster-coco-eval'.
        **kwargs: As in mmdet's ``CocoMetric``.

    Raises:
        ValueError: An unknown backend, or faster-coco-eval with ``use_mp_eval``.
        ImportError: The backend is not installed.
        AnnotationError: The annotation file has a value that cannot be evaluated, or (when
            evaluating) not one category of each class.

    Example:
        In a config: ``val_evaluator = dict(type='KWCocoMetric', backend='pycocotools', ...)``
    """

    def __init__(self, *args, backend: str = 'auto', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.backend = choose_backend(backend, self.use_mp_eval)
        bound = inspect.signature(CocoMetric.__init__).bind_partial(self, *args, **kwargs).arguments
        self._name = bound.get('ann_file') or ''
        self._by_place = bool(bound.get('sort_categories'))
        self._ids: list | None = None  # of categories, by label
        if self._coco_api is not None:
            prepare_ground_truth(self._coco_api, self._name)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics by name, e.g. ``bbox_mAP``."""
        known = self._coco_api is not None
        if known and not self._by_place:
            results = self._by_name(results)
        if known and 'segm' in self.metrics and not self.format_only:
            ids = self.cat_ids or self._coco_api.get_cat_ids(self.dataset_meta['classes'])
            prepare_masks(self._coco_api, ids, self._name)
        if self.backend == FAST and (not known or integer_ids(self._coco_api)):
            metrics = _with_names(CocoMetric.compute_metrics, COCOeval=FastCOCOeval)(self, results)
        else:
            metrics = super().compute_metrics(results)
        if not self.format_only:
            for metric in set(self.metrics) & {'bbox', 'segm'}:
                for item in self.metric_items or ITEMS:
                    metrics.setdefault(f'{metric}_{item}', 0.0)
        return metrics

    def _by_name(self, results: list) -> list:
        """Results whose labels count the categories by their ids, as ``COCOeval`` sorts them."""
        if self._ids is None:
            self._ids = ids_by_name(self._coco_api, self.dataset_meta['classes'], self._name)
        self.cat_ids = sorted(self._ids)
        if self.cat_ids == self._ids:
            return results
        places = np.array([self.cat_ids.index(one) for one in self._ids])
        return [(gt, {**found, 'labels': places[found['labels']]}) for gt, found in results]


def _with_names(function: FunctionType, **names) -> FunctionType:
    """The function with other values for global names: mmdet finds ``COCOeval`` in its module.

    Its module stays as it is, whoever else evaluates at the same time.
    """
    rebound = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    return rebound
