"""Operators in which every image of the batch has its own kernel. They need torch only."""

from .backends import backend_for, use_backend
from .conv import conv2d_per_image, convolve
from .conv3d import Geometry3d, conv3d_per_image
from .geometry import Geometry, HasGeometry
from .interface import Backend
from .linear import linear_per_image
from .mix import CellGradients, SharedCells
from .mixed import mixed_conv2d, mixed_conv3d, mixed_kernels, mixed_linear
from .partition import Partition
from .reference import reference_path

__all__ = [
    'Backend',
    'CellGradients',
    'Geometry',
    'Geometry3d',
    'HasGeometry',
    'Partition',
    'SharedCells',
    'backend_for',
    'conv2d_per_image',
    'conv3d_per_image',
    'convolve',
    'linear_per_image',
    'mixed_conv2d',
    'mixed_conv3d',
    'mixed_kernels',
    'mixed_linear',
    'reference_path',
    'use_backend',
]
