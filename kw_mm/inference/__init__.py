"""Predicting on pictures, folders and videos."""

from .inferencers import KWClassificationInferencer, KWDetInferencer, load_inferencer
from .prediction import predict

__all__ = ['KWClassificationInferencer', 'KWDetInferencer', 'load_inferencer', 'predict']
