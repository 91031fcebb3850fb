"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads, hooks, metric and image loading."""

from . import attention, evaluation, models, training
from .config_files import config, config_names

__version__ = '0.1.0'
__all__ = ['attention', 'config', 'config_names', 'evaluation', 'models', 'training']
