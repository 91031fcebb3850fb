"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads, hooks, metric and image loading."""
from . import backbones, datasets, evaluation, heads, hooks, parallel
from .config_files import config, config_names

__version__ = '0.1.0'
__all__ = ['backbones', 'config', 'config_names', 'datasets', 'evaluation', 'heads', 'hooks', 'parallel']
