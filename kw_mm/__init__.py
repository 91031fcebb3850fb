"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads, hooks and metric."""
from . import backbones, evaluation, heads, hooks, parallel

__version__ = '0.1.0'
__all__ = ['backbones', 'evaluation', 'heads', 'hooks', 'parallel']
