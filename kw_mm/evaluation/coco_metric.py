"""COCO evaluation that always gives numbers."""
from typing import Dict

from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')


@METRICS.register_module()
class KWCocoMetric(CocoMetric):
    """mmdet's COCO metric; a model that detects nothing at all gets AP 0 instead of an empty result.

    Early in a training from scratch there may be no detection in the whole set. mmdet then returns no metric, and
    whatever reads one (the best checkpoint, curves, early stopping) breaks or goes blind.
    """

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Metrics by name, e.g. ``bbox_mAP``."""
        metrics = super().compute_metrics(results)
        if not self.format_only:
            for metric in set(self.metrics) & {'bbox', 'segm'}:
                for item in self.metric_items or ITEMS:
                    metrics.setdefault(f'{metric}_{item}', 0.0)
        return metrics
