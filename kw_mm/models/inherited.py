"""Options that a config inherits from mmdet's and mmseg's backbones.

``backbone=dict(type='KWResNet', budget=1)`` on top of another project's config keeps all that its
backbone was told: strides, dilations, frozen stages. mmpretrain's backbones, ours derive from, do
not know all of it. Here is the rest: understood, or refused with the way out.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..validation import closest

# option: (what it does, the value at which it does nothing)
WITHOUT_COUNTERPART = dict(
    dcn=('deformable convolutions', None),
    plugins=('modules between the convolutions of a block', None),
    groups=('grouped convolutions, as in ResNeXt', 1),
)
WAY_OUT = (
    'options inherited from a backbone of another kind go away with backbone=dict(_delete_=True, '
    '...), which has to repeat those that the neck and heads rely on (out_indices, strides, '
    'dilations, frozen_stages, norm_eval)'
)


def check_without_counterpart(backbone: type, options: Mapping[str, Any]) -> None:
    """Check that options which have no counterpart here do nothing.

    Args:
        backbone: The backbone's class.
        options: Values of options in :data:`WITHOUT_COUNTERPART`.

    Raises:
        ValueError: One does something; says at which value it would not.
    """
    for name, value in options.items():
        meaning, neutral = WITHOUT_COUNTERPART[name]
        if value is not None and value != neutral:
            raise ValueError(
                f'{name} must be {neutral!r}, got {name}={value!r}: {backbone.__name__} has no '
                f'{meaning}; write {name}={neutral!r} into the backbone, which takes an inherited '
                'one away'
            )


def take_pretrained(options: dict[str, Any], pretrained: str | None) -> dict[str, Any]:
    """Options in which ``pretrained``, an older way to name weights, has become ``init_cfg``.

    mmseg hands a model's ``pretrained`` on to the backbone.

    Raises:
        TypeError, ValueError: It is not a path, or ``init_cfg`` names weights, too.
    """
    if pretrained is None:
        return options
    if not isinstance(pretrained, str):
        raise TypeError(
            f'pretrained must be a file, a URL or None, got pretrained={pretrained!r}; weights are '
            "named by init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    given = options.get('init_cfg')
    if given:
        raise ValueError(
            f'pretrained={pretrained!r} and init_cfg={given!r} must not both name weights; set one '
            'of them to None (mmseg has the first in model=dict(pretrained=...))'
        )
    return {**options, 'init_cfg': dict(type='Pretrained', checkpoint=pretrained)}


def check_known(backbone: type, keywords: Mapping[str, Any], more: Sequence[str] = ()) -> None:
    """Check that a backbone has the options it was given.

    Args:
        backbone: Its class, whose constructors say what there is.
        keywords: The options.
        more: Options beyond those of the constructors.

    Raises:
        TypeError: It has not; names the nearest one that it has, and how to drop inherited ones.
    """
    known = [*more, *_parameters(backbone)]
    for keyword in keywords:
        if keyword not in known:
            near = closest(keyword, known, most=1)
            advice = f'the nearest is {near[0]!r}' if near else f'there are {", ".join(known)}'
            raise TypeError(f'{backbone.__name__} has no option {keyword!r}; {advice}; {WAY_OUT}')


def check_per_stage(option: str, values: Any, number: int, what: str = 'stage') -> None:
    """Check that there is a positive integer for every stage (or whatever ``what`` says).

    Raises:
        ValueError: There is not.
    """
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if (
        not is_list
        or len(values) != number
        or not all(isinstance(value, int) and value > 0 for value in values)
    ):
        raise ValueError(
            f'{option} must be {number} positive integers, one for each {what}, got '
            f'{option}={values!r}'
        )


def set_geometry(conv: nn.Module, *, dilation: int, stride: int | None = None) -> None:
    """Set dilation, padding and perhaps stride of a 3x3 convolution that is built already.

    Raises:
        ValueError: It is none of torch's own, such as one that ``conv_cfg`` named.
    """
    wanted = dict(dilation=(dilation, dilation), padding=(dilation, dilation))
    if stride is not None:
        wanted['stride'] = (stride, stride)
    if all(tuple(getattr(conv, name)) == value for name, value in wanted.items()):
        return
    if type(conv) is not nn.Conv2d:
        raise ValueError(
            f'strides, dilations, contract_dilation and multi_grid need plain convolutions, got '
            f'conv_cfg for {type(conv).__name__}; leave conv_cfg out, or those options'
        )
    for name, value in wanted.items():
        setattr(conv, name, value)


def _parameters(backbone: type) -> list[str]:
    """Names of what a class's constructors take, as far up as they pass further keywords on."""
    found: list[str] = []
    for parent in backbone.__mro__:
        if '__init__' not in vars(parent):
            continue
        parameters = inspect.signature(parent.__init__).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found += [p.name for p in parameters if p.kind in named and p.name != 'self']
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return found
