"""COCO evaluation that always gives numbers, and soon."""

from types import FunctionType

from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from .fast_coco_eval import FAST, FastCOCOeval, choose_backend

ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module(force=True)
class KWCocoMetric(CocoMetric):
    """mmdet's COCO metric in less time: the same numbers, by faster-coco-eval if it is installed.

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

    Example:
        In a config: ``val_evaluator = dict(type='KWCocoMetric', backend='pycocotools', ...)``
    """

    def __init__(self, *args, backend: str = 'auto', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.backend = choose_backend(backend, self.use_mp_eval)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics by name, e.g. ``bbox_mAP``."""
        if self.backend == FAST:
            metrics = _with_names(CocoMetric.compute_metrics, COCOeval=FastCOCOeval)(self, results)
        else:
            metrics = super().compute_metrics(results)
        if not self.format_only:
            for metric in set(self.metrics) & {'bbox', 'segm'}:
                for item in self.metric_items or ITEMS:
                    metrics.setdefault(f'{metric}_{item}', 0.0)
        return metrics


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
