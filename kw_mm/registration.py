"""What OpenMMLab finds by name, registered without importing what it takes to build it.

Backbones subclass mmpretrain's and the metric mmdet's, whose packages import each other, matplotlib
and much else: three seconds that a process which only reads a config need not spend. So a name
stands for a function that imports the class when the first one is built; the class then takes the
name over.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS, Registry

from . import attention, checkpoints, training  # noqa: F401  (hooks, kw:// and safe reading)
from .checkpoints.architectures import registered_by
from .compared import (
    CGCConv2d,
    CondConv2d,
    DCDConv2d,
    DYConv1d,
    DYConv2d,
    FDConv2d,
    ODConv1d,
    ODConv2d,
    WeightNetConv2d,
)

# for ``conv_cfg=dict(type='ODConv2d')`` of any OpenMMLab network
CONVS = (
    CGCConv2d, CondConv2d, DCDConv2d, DYConv1d, DYConv2d, FDConv2d, ODConv1d, ODConv2d,
    WeightNetConv2d,
)  # fmt: skip
UNBUILDABLE = ('KWConv2d', 'KWLinear')  # by themselves; named to be refused with the way out
LAZY: dict[str, tuple[Registry, tuple[str, ...]]] = {
    'kw_mm.models': (
        MODELS,
        (
            'AttentionResNet',
            'DynamicLinearClsHead',
            'DynamicMobileNetV2',
            'DynamicResNet',
            'KWConvNeXt',
            'KWLinearClsHead',
            'KWMobileNetV2',
            'KWResNet',
            'KWVisionTransformer',
            'StaticConvNeXt',
            'StaticMobileNetV2',
            'StaticResNet',
            'StaticVisionTransformer',
        ),
    ),
    'kw_mm.evaluation': (METRICS, ('KWCocoMetric',)),
    'kw_mm.training.image_loading': (TRANSFORMS, ('KWLoadImageFromFile',)),
    'kw_mm.training.drawing_hook': (HOOKS, ('KWDetVisualizationHook',)),
}


def refuse_as_conv_cfg(*args: Any, **kwargs: Any) -> Any:
    """Stands for KW layers where a config names them by themselves, as ``conv_cfg`` would.

    Raises:
        ValueError: Always; it says what works.
    """
    raise ValueError(
        "a KW layer cannot be built by itself, as by conv_cfg=dict(type='KWConv2d'), since it "
        "draws on a warehouse that layers share: name a KW backbone (type='KWResNet', ...), or put "
        'warehouses into a network with kw_mm.warehouse.apply_kernel_warehouse(module, plan); '
        f'{", ".join(conv.__name__ for conv in CONVS)} work as conv_cfg'
    )


def register_lazily(registry: Registry, module: str, name: str) -> None:
    """Let a name stand for an object of a module that is imported when it is first built."""

    def build(*args: Any, **kwargs: Any) -> Any:
        registered: Callable[..., Any] = registry.get(name)
        import_module(module)
        found: Callable[..., Any] = registry.get(name)
        if found is registered:
            raise ImportError(f'{module} does not register {name}')
        return found(*args, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__module__ = module
    if name not in registry.module_dict:
        registry.register_module(name=name, module=build)


class _ToMMEngine(logging.Handler):
    """Hands what the core, which knows torch only, logs to mmengine's logger."""

    def emit(self, record: logging.LogRecord) -> None:
        print_log(record.getMessage(), logger='current', level=record.levelno)


def register_everything() -> None:
    """Register every type that configs can name, and forward the core's log lines."""
    for conv in CONVS:
        MODELS.register_module(module=conv, force=True)
    for layer in UNBUILDABLE:
        MODELS.register_module(name=layer, module=refuse_as_conv_cfg, force=True)
    for module, (registry, names) in LAZY.items():
        for name in names:
            register_lazily(registry, module, name)
    registered_by('kw_mm.models')
    logger = logging.getLogger('kw_mm')
    if not any(isinstance(handler, _ToMMEngine) for handler in logger.handlers):
        logger.addHandler(_ToMMEngine())
        logger.setLevel(logging.INFO)
        logger.propagate = False
