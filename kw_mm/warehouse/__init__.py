"""Kernel warehouses in plain PyTorch.

KernelWarehouse: Rethinking the Design of Dynamic Convolution (ICML 2024),
https://arxiv.org/abs/2406.07879.
"""

from ..ops.partition import Partition, common_cell
from .apply import apply_kernel_warehouse, kw_layers
from .attention_functions import contrasting_attention
from .auto_plan import AutoPlan, auto_plan
from .freezing import freeze_warehouses
from .kernel_attention import KernelAttention, ReducedKernelAttention
from .layers import KWConv1d, KWConv2d, KWConv3d, KWLayer, KWLinear
from .warehouses import HasTemperature, Warehouse, Warehouses

__all__ = [
    'AutoPlan',
    'HasTemperature',
    'KWConv1d',
    'KWConv2d',
    'KWConv3d',
    'KWLayer',
    'KWLinear',
    'KernelAttention',
    'Partition',
    'ReducedKernelAttention',
    'Warehouse',
    'Warehouses',
    'apply_kernel_warehouse',
    'auto_plan',
    'common_cell',
    'contrasting_attention',
    'freeze_warehouses',
    'kw_layers',
]
