"""Heads with kernel warehouses or dynamic convolutions."""
from .dynamic_linear_cls_head import DynamicLinearClsHead
from .kw_linear_cls_head import KWLinearClsHead

__all__ = ['DynamicLinearClsHead', 'KWLinearClsHead']
