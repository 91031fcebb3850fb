"""Convolution with one kernel per image, and the dynamic convolutions that KernelWarehouse is compared with."""
from .base import DynamicConv2d, MixedConv2d, SoftmaxTemperature
from .cond_conv import CondConv2d, CondLinear, share_routing
from .dcd_conv import DCDConv2d, DCDLinear
from .dy_conv import DYConv2d
from .od_conv import ODConv2d
from .per_image import conv2d_per_image, linear_per_image
from .reference import reference_path

__all__ = [
    'CondConv2d', 'CondLinear', 'DCDConv2d', 'DCDLinear', 'DYConv2d', 'DynamicConv2d', 'MixedConv2d', 'ODConv2d',
    'SoftmaxTemperature', 'conv2d_per_image', 'linear_per_image', 'reference_path', 'share_routing'
]
