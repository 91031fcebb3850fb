"""Operators in which every image of the batch has its own kernel."""

from .conv import conv2d_per_image, linear_per_image
from .reference import reference_path

__all__ = ['conv2d_per_image', 'linear_per_image', 'reference_path']
