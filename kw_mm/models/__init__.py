"""Backbones and heads, registered in mmengine's root registry."""

from . import conv_layers  # noqa: F401  (registers them)
from .attention_resnet import AttentionResNet
from .dynamic_linear_cls_head import DynamicLinearClsHead
from .dynamic_mobilenet_v2 import DynamicMobileNetV2
from .dynamic_resnet import DynamicResNet
from .kw_convnext import KWConvNeXt
from .kw_linear_cls_head import KWLinearClsHead
from .kw_mobilenet_v2 import KWMobileNetV2
from .kw_resnet import KWResNet
from .kw_vision_transformer import KWVisionTransformer
from .static_convnext import StaticConvNeXt
from .static_mobilenet_v2 import StaticMobileNetV2
from .static_resnet import StaticResNet
from .static_vision_transformer import StaticVisionTransformer

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
]
