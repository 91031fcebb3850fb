"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads and hooks."""
from . import backbones, heads, hooks

__version__ = '0.1.0'
__all__ = ['backbones', 'heads', 'hooks']
