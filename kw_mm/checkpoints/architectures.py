"""The architectures there are: how weights tell one, and what can be built of it.

Each file of :mod:`kw_mm.models` registers its own, so nothing here names a network. Conversion and
error messages go through this registry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

from ..compared import CondConv2d, DCDConv2d, DYConv2d, FDConv2d, ODConv2d
from ..warehouse.budget import Budget
from ..warehouse.sharing import Plan
from .layouts import FDCONV_SPECTRUM, Entries

# the compared convolutions with K kernels by a layer of their attention branch; CondConv's has none
# of these
CONV_BY_BRANCH = dict(channel_fc=ODConv2d, fc2=DYConv2d)


def smallest(ratios: Mapping[str, Fraction]) -> Fraction:
    """The least budget among warehouses."""
    return min(ratios.values())


@dataclass(frozen=True)
class Architecture:
    """An architecture with its backbones.

    Args:
        name: What error messages call it.
        recognise: From a backbone's entries, in any layout, the options that tell it from others of
            its architecture, such as ``dict(depth=50)``, without budget and dynamic convolution;
            None for another architecture.
        describe: A backbone's entries in words, such as 'ResNet-50'; None for another architecture.
        static: Class of the plain backbone.
        kw: Class of the backbone with warehouses.
        dynamic: Class of the backbone with the compared dynamic convolutions, if there is one.
        plan: From a static backbone and a budget, the published sharing plan.
        budget: From the budgets n / m_t of all warehouses by name, that of the network, where it is
            below 1.
    """

    name: str
    recognise: Callable[[Entries], dict[str, Any] | None]
    describe: Callable[[Entries], str | None]
    static: type[nn.Module]
    kw: type[nn.Module]
    plan: Callable[[nn.Module, Fraction], Plan]
    dynamic: type[nn.Module] | None = None
    budget: Callable[[Mapping[str, Fraction]], Fraction] = smallest


class Recognised(NamedTuple):
    """A network that is known.

    Args:
        architecture: Its architecture.
        options: Its options, without budget and dynamic convolution.
        conv: Config of its dynamic convolution, if it has one of the compared ones.
    """

    architecture: Architecture
    options: dict[str, Any]
    conv: dict[str, Any] | None = None

    def build(self, budget: Budget | None) -> nn.Module:
        """The backbone with its dynamic convolutions; those of KernelWarehouse need a budget."""
        if self.conv:
            return self.architecture.dynamic(conv=self.conv, **self.options)
        return self.architecture.kw(budget=budget, **self.options)

    def build_static(self) -> nn.Module:
        """The plain backbone."""
        return self.architecture.static(**self.options)


Head = Callable[[Entries], nn.Module | None]

_ARCHITECTURES: dict[str, Architecture] = {}
_HEADS: list[Head] = []
_MODULES: list[str] = []


def register(architecture: Architecture) -> None:
    """Make an architecture known."""
    _ARCHITECTURES[architecture.name] = architecture


def register_head(build: Head) -> Head:
    """Make known what builds the dynamic head that a classifier's entries belong to, or None."""
    _HEADS.append(build)
    return build


def registered_by(module: str) -> None:
    """Name a module that registers architectures when it is imported."""
    _MODULES.append(module)


def architectures() -> list[Architecture]:
    """All that are known, after what registers them has been imported."""
    for module in _MODULES:
        import_module(module)
    return list(_ARCHITECTURES.values())


def recognise(entries: Entries) -> Recognised | None:
    """The network that a backbone's entries belong to; None if it is none we know."""
    for architecture in architectures():
        options = architecture.recognise(entries)
        if options is not None:
            conv = dynamic_conv(entries) if architecture.dynamic else None
            return Recognised(architecture, options, conv)
    return None


def build_head(entries: Entries) -> nn.Module | None:
    """The dynamic head that a classifier's entries belong to, as built; None for a plain one."""
    return next((head for head in (build(entries) for build in _HEADS) if head is not None), None)


def dynamic_conv(entries: Entries) -> dict[str, Any] | None:
    """Config of a network's compared dynamic convolution, None where it has none.

    Args:
        entries: The backbone's tensors by name.

    Returns:
        dict, optional: Such as ``dict(type='ODConv2d', num_kernels=4)``.
    """
    for key, weight in entries.items():
        if key.endswith(FDCONV_SPECTRUM):
            return dict(type=FDConv2d.__name__, **_frequency_groups(entries, key))
        branch = key[: -len('weight')] + 'attention.'
        if not key.endswith('.weight') or weight.dim() not in (4, 5):
            continue
        if f'{branch}fc_phi.weight' in entries:
            return dict(type=DCDConv2d.__name__)
        if weight.dim() == 5:
            found = (
                conv for mark, conv in CONV_BY_BRANCH.items() if f'{branch}{mark}.weight' in entries
            )
            return dict(type=next(found, CondConv2d).__name__, num_kernels=len(weight))
    return None


def _frequency_groups(entries: Entries, key: str) -> dict[str, int]:
    """K of an FDConv layer, from its attention to frequency groups, if that is there."""
    layer = key.removesuffix(FDCONV_SPECTRUM)
    for branch in ('attention', 'KSM_Global'):
        head = entries.get(f'{layer}.{branch}.kernel_fc.bias')
        if head is not None:
            return dict(kernel_num=len(head))
    return {}
