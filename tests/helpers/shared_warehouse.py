"""A small network of three layers that share a warehouse, and a depthwise one of its own."""

import torch
from torch import nn

from kw_mm.warehouse import apply_kernel_warehouse


def shared_warehouse_network(**options):
    """With the same weights each time; options as of ``apply_kernel_warehouse``."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
    )
    plan = {'shared': ['0', '2', '6'], 'depthwise': ['4']}
    return apply_kernel_warehouse(net, plan, attention_norm='LN', **options, init='published')
