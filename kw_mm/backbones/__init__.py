"""Backbones, registered in mmengine's root registry."""
from .dynamic_mobilenet_v2 import DynamicMobileNetV2
from .dynamic_resnet import DynamicResNet
from .kw_mobilenet_v2 import KWMobileNetV2
from .kw_resnet import KWResNet
from .static_mobilenet_v2 import StaticMobileNetV2
from .static_resnet import StaticResNet

__all__ = ['DynamicMobileNetV2', 'DynamicResNet', 'KWMobileNetV2', 'KWResNet', 'StaticMobileNetV2', 'StaticResNet']
