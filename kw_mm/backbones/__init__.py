"""Backbones, registered in mmengine's root registry."""
from . import conv_layers  # noqa: F401  (registers them)
from .attention_resnet import AttentionResNet
from .kw_mobilenet_v2 import KWMobileNetV2
from .kw_resnet import KWResNet
from .static_mobilenet_v2 import StaticMobileNetV2
from .static_resnet import StaticResNet

__all__ = ['AttentionResNet', 'KWMobileNetV2', 'KWResNet', 'StaticMobileNetV2', 'StaticResNet']
