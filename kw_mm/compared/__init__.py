"""The dynamic convolutions that KernelWarehouse is compared with."""

from .cgc_conv import CGCConv2d
from .cond_conv import CondConv2d, CondLinear, share_routing
from .dcd_conv import DCDConv2d, DCDLinear
from .dy_conv import DYConv2d
from .dynamic_conv import DynamicConv2d, MixedConv2d, SoftmaxTemperature
from .fdconv import FDConv2d
from .od_conv import ODConv2d
from .sequences import DYConv1d, ODConv1d
from .weight_net import WeightNetConv2d

__all__ = [
    'CGCConv2d',
    'CondConv2d',
    'CondLinear',
    'DCDConv2d',
    'DCDLinear',
    'DYConv1d',
    'DYConv2d',
    'DynamicConv2d',
    'FDConv2d',
    'MixedConv2d',
    'ODConv1d',
    'ODConv2d',
    'SoftmaxTemperature',
    'WeightNetConv2d',
    'share_routing',
]
