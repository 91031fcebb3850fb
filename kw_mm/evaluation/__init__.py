"""Evaluation, registered in mmengine's root registry."""

from .coco_metric import KWCocoMetric

__all__ = ['KWCocoMetric']
