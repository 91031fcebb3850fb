"""What backbones with the compared dynamic convolutions have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..compared import CondConv2d, DCDConv2d, DYConv2d, FDConv2d, ODConv2d, share_routing
from ..protocols import TemperatureControlled
from ..validation import check_flag
from .base import StaticBackbone, attention_kept_training

Blocks = Mapping[str, Sequence[str]]
BACKBONE_CONVS = (CondConv2d, DCDConv2d, DYConv2d, FDConv2d, ODConv2d)


class DynamicBackbone(StaticBackbone):
    """Mixin for an OpenMMLab backbone: convolutions of a given type in place of plain ones.

    It comes before the OpenMMLab class in the bases, so that freezing and loading pass through it.
    """

    train_attention_in_frozen_stages = False

    def put_convs(
        self,
        conv: dict[str, Any],
        blocks: Blocks,
        layers: Sequence[str],
        temperature: float | None,
        train_attention_in_frozen_stages: bool | None = None,
    ) -> None:
        """Replace convolutions, all but those that a type leaves plain; the log names them.

        Args:
            conv: Type and options of the new ones.
            blocks: ``{block: [names of its convolutions, in the order they run]}``.
            layers: Names of those to replace.
            temperature: What to begin with; None for the layers' own default.
            train_attention_in_frozen_stages: Whether attention branches of frozen stages train;
                None for what was published: FDConv's do.
        """
        known = [name for names in blocks.values() for name in names]
        unknown = [name for name in layers if name not in known]
        if unknown or not layers:
            raise ValueError(
                f'layers={list(layers)!r} names {unknown or "nothing"}, which is not among the '
                f'convolutions that can be dynamic, such as {", ".join(known[:3])}'
            )
        built = {name: build_like(conv, self.get_submodule(name)) for name in layers}
        new = {name: layer for name, layer in built.items() if not why_plain(layer)}
        self._log_plain({name: why_plain(built[name]) for name in built if name not in new})
        if not new:
            raise ValueError(
                f'layers={list(layers)!r} would all stay plain as {conv["type"]}; name one that '
                'is dynamic, or build the static backbone'
            )
        for name, layer in new.items():
            parent, _, child = name.rpartition('.')
            setattr(self.get_submodule(parent), child, layer)
        for names in blocks.values():
            sharing = [new[name] for name in names if isinstance(new.get(name), CondConv2d)]
            if sharing:
                share_routing(sharing)
        if temperature is not None:
            self.set_temperature(temperature)
        if train_attention_in_frozen_stages is None:
            train_attention_in_frozen_stages = getattr(
                conv_type(conv), 'trains_in_frozen_stages', False
            )
        check_flag('train_attention_in_frozen_stages', train_attention_in_frozen_stages)
        self.train_attention_in_frozen_stages = train_attention_in_frozen_stages
        self._freeze_stages()  # OpenMMLab's constructor froze the layers that were replaced

    def _log_plain(self, reasons: Mapping[str, str]) -> None:
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name in reasons if reasons[name] == reason]
            print_log(
                f'{type(self).__name__}: {", ".join(names)} stay plain: {reason}', logger='current'
            )

    def _freeze_stages(self) -> None:
        with attention_kept_training(self, self.train_attention_in_frozen_stages):
            super()._freeze_stages()

    @property
    def temperature(self) -> Tensor | None:
        """T, a scalar tensor; None where the layers have none."""
        layers = self._layers_with_temperature()
        return layers[0].temperature if layers else None

    def set_temperature(self, value: float) -> None:
        """Set T of every dynamic layer.

        Raises:
            ValueError: A value that is not positive, or layers without a temperature.
        """
        layers = self._layers_with_temperature()
        if not layers:
            raise ValueError(
                f'the dynamic convolutions of this {type(self).__name__} have no temperature; '
                'leave AttentionTemperatureHook (and the temperature) out'
            )
        for layer in layers:
            layer.set_temperature(value)

    def _layers_with_temperature(self) -> list[nn.Module]:
        return [
            module
            for module in self.modules()
            if module is not self and isinstance(module, TemperatureControlled)
        ]


def why_plain(layer: nn.Module) -> str | None:
    """Why a layer of a dynamic type is a plain convolution; None where it is dynamic."""
    return getattr(layer, 'why_plain', None)


def conv_type(conv: dict[str, Any]) -> type:
    """The class that a convolution's config names.

    Raises:
        TypeError, ValueError: Not a config, or an unknown type.
    """
    names = ', '.join(layer.__name__ for layer in BACKBONE_CONVS)
    if not isinstance(conv, Mapping) or 'type' not in conv:
        raise TypeError(
            f"conv must be a config such as dict(type='ODConv2d', num_kernels=4), got conv={conv!r}"
        )
    layer = conv['type'] if isinstance(conv['type'], type) else MODELS.get(conv['type'])
    if layer is None:
        raise ValueError(
            f'conv type must be one of {names} or be registered in MODELS, got {conv["type"]!r}'
        )
    return layer


def build_like(conv: dict[str, Any], plain: nn.Conv2d) -> nn.Module:
    """A convolution of another type with the geometry of a plain one.

    Raises:
        ValueError: A padding mode other than zeros.
    """
    if plain.padding_mode != 'zeros':
        raise ValueError(
            f"padding_mode={plain.padding_mode!r} has no dynamic convolution; only 'zeros' has"
        )
    options = {key: value for key, value in conv.items() if key != 'type'}
    layer = conv_type(conv)(
        plain.in_channels,
        plain.out_channels,
        plain.kernel_size,
        stride=plain.stride,
        padding=plain.padding,
        dilation=plain.dilation,
        groups=plain.groups,
        bias=plain.bias is not None,
        **options,
    )
    return layer.to(plain.weight).train(plain.training)
