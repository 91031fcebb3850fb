"""Our dynamic convolutions by name: ``conv_cfg=dict(type='CGCConv2d')`` of any OpenMMLab network."""

from mmengine.registry import MODELS

from ..compared.cgc_conv import CGCConv2d
from ..compared.weight_net import WeightNetConv2d

for layer in (CGCConv2d, WeightNetConv2d):
    MODELS.register_module(module=layer)
