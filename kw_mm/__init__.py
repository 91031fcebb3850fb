"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads, hooks, metric and image loading."""
from . import backbones, datasets, evaluation, heads, hooks

__version__ = '0.1.0'
__all__ = ['backbones', 'datasets', 'evaluation', 'heads', 'hooks']
