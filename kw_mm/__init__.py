"""KernelWarehouse for OpenMMLab. Importing this package registers its backbones, heads, hooks and metric."""
from . import backbones, evaluation, heads, hooks
from .config_files import config, config_names

__version__ = '0.1.0'
__all__ = ['backbones', 'config', 'config_names', 'evaluation', 'heads', 'hooks']
