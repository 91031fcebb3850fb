"""Convolution with one kernel per image."""
from .per_image import conv2d_per_image, linear_per_image

__all__ = ['conv2d_per_image', 'linear_per_image']
