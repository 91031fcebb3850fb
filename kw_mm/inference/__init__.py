"""Predicting on pictures, folders and videos."""

from .predict import predict

__all__ = ['predict']
