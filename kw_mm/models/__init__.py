"""Backbones, one file per architecture, and heads, registered in mmengine's root registry."""

from .convnext import KWConvNeXt, StaticConvNeXt
from .heads import DynamicLinearClsHead, KWLinearClsHead
from .mobilenet_v2 import DynamicMobileNetV2, KWMobileNetV2, StaticMobileNetV2
from .options import WarehouseOptions
from .resnet import AttentionResNet, DynamicResNet, KWResNet, StaticResNet
from .vision_transformer import KWVisionTransformer, StaticVisionTransformer

__all__ = [
    'AttentionResNet',
    'DynamicLinearClsHead',
    'DynamicMobileNetV2',
    'DynamicResNet',
    'KWConvNeXt',
    'KWLinearClsHead',
    'KWMobileNetV2',
    'KWResNet',
    'KWVisionTransformer',
    'StaticConvNeXt',
    'StaticMobileNetV2',
    'StaticResNet',
    'StaticVisionTransformer',
    'WarehouseOptions',
]
