"""Predicting on pictures, folders and videos."""

from ..optimizing import optimize_for_inference
from .image_results import Classification, Detections
from .inferencers import KWClassificationInferencer, KWDetInferencer, load_inferencer
from .loaded import Classifier, Detector, load
from .prediction import predict

__all__ = [
    'Classification',
    'Classifier',
    'Detections',
    'Detector',
    'KWClassificationInferencer',
    'KWDetInferencer',
    'load',
    'load_inferencer',
    'optimize_for_inference',
    'predict',
]
