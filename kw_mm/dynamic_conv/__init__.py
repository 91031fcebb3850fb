"""Convolution with one kernel per image."""
from .per_image import conv2d_per_image, linear_per_image
from .reference import reference_path

__all__ = ['conv2d_per_image', 'linear_per_image', 'reference_path']
