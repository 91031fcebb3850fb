"""KernelWarehouse for OpenMMLab.

With mmengine, mmcv, mmdet and mmpretrain installed, importing this package registers its backbones,
heads, hooks, metric and image loading. ``kw_mm.ops``, ``kw_mm.warehouse`` and
``kw_mm.optimizing`` need torch only.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .config_files import config, config_names

__version__ = '0.2.0.dev0'
__all__ = ['config', 'config_names']

OPENMMLAB_PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')
ROOMS = (
    'analysis',
    'attention',
    'checkpoints',
    'compared',
    'evaluation',
    'export',
    'inference',
    'models',
    'ops',
    'optimizing',
    'training',
    'warehouse',
)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # someone keeps it from being imported
        return False


def __getattr__(name: str) -> Any:
    """Import a subpackage when it is first named: ``kw_mm.models.KWResNet``, ``kw_mm.load``."""
    if name in ROOMS:
        return import_module(f'{__name__}.{name}')
    if name == 'load':
        return import_module(f'{__name__}.inference').load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if all(map(_is_installed, OPENMMLAB_PACKAGES)):
    from .registration import register_everything

    register_everything()
