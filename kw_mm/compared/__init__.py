"""The dynamic convolutions that KernelWarehouse is compared with."""

from .dynamic_conv import DynamicConv2d, MixedConv2d, SoftmaxTemperature
from .cond_conv import CondConv2d, CondLinear, share_routing
from .dcd_conv import DCDConv2d, DCDLinear
from .dy_conv import DYConv2d
from .od_conv import ODConv2d

__all__ = [
    'CondConv2d',
    'CondLinear',
    'DCDConv2d',
    'DCDLinear',
    'DYConv2d',
    'DynamicConv2d',
    'MixedConv2d',
    'ODConv2d',
    'SoftmaxTemperature',
    'share_routing',
]
