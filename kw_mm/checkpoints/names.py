"""How other projects call the weights of a network, as data."""
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Sequence, Tuple

Prefixes = Tuple[Tuple[str, str], ...]

# (blocks of each group) of MobileNetV2; the first group does not expand
MOBILENET_V2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def rename(key: str, prefixes: Prefixes) -> str:
    """A key under its new prefix; unchanged where no old one fits."""
    return next((new + key[len(old):] for old, new in prefixes if key.startswith(old)), key)


@dataclass(frozen=True)
class LayoutNames:
    """What a module's keys are called elsewhere.

    Args:
        warehouses: {K of the published ``warehouse_manager.weights.K``: our warehouse's name}.
        published: (theirs, ours) pairs of key prefixes in published KernelWarehouse files.
        static: The same for plain networks, by project; a project without pairs uses our names.
        foreign: Key prefixes of other modules of the same network, in any of these layouts.
        home: Prefix of the module's keys in a whole OpenMMLab model.
    """
    warehouses: Mapping[int, str] = field(default_factory=dict)
    published: Prefixes = ()
    static: Mapping[str, Prefixes] = field(default_factory=lambda: {'torchvision': ()})
    foreign: Tuple[str, ...] = ()
    home: str = 'backbone.'

    def rename(self, key: str, prefixes: Prefixes) -> Optional[str]:
        """Our name of a key; None if it belongs to another module."""
        renamed = rename(key, prefixes)
        return None if renamed == key and key.startswith(self.foreign) else renamed


def torchvision_mobilenet_v2(blocks: Sequence[int] = MOBILENET_V2_BLOCKS) -> Prefixes:
    """torchvision's names of MobileNetV2, which the published KernelWarehouse files share, and mmpretrain's."""
    pairs = [('features.0.0.', 'conv1.conv.'), ('features.0.1.', 'conv1.bn.')]
    number = 0
    for group, index in _blocks(blocks):
        number += 1
        theirs, ours = f'features.{number}.conv', f'layer{group}.{index}.conv'
        last = 1 if group == 1 else 2                      # position of the projecting convolution
        for i in range(last):
            pairs += [(f'{theirs}.{i}.0.', f'{ours}.{i}.conv.'), (f'{theirs}.{i}.1.', f'{ours}.{i}.bn.')]
        pairs += [(f'{theirs}.{last}.', f'{ours}.{last}.conv.'), (f'{theirs}.{last + 1}.', f'{ours}.{last}.bn.')]
    return (*pairs, (f'features.{number + 1}.0.', 'conv2.conv.'), (f'features.{number + 1}.1.', 'conv2.bn.'))


def timm_mobilenet_v2(blocks: Sequence[int] = MOBILENET_V2_BLOCKS) -> Prefixes:
    """timm's names of MobileNetV2 and mmpretrain's."""
    pairs = [('conv_stem.', 'conv1.conv.'), ('bn1.', 'conv1.bn.'), ('conv_head.', 'conv2.conv.'), ('bn2.', 'conv2.bn.')]
    for group, index in _blocks(blocks):
        names = ('conv_dw', 'conv_pw') if group == 1 else ('conv_pw', 'conv_dw', 'conv_pwl')
        for i, conv in enumerate(names):
            theirs, ours = f'blocks.{group - 1}.{index}', f'layer{group}.{index}.conv.{i}'
            pairs += [(f'{theirs}.{conv}.', f'{ours}.conv.'), (f'{theirs}.bn{i + 1}.', f'{ours}.bn.')]
    return tuple(pairs)


def reverse(prefixes: Prefixes) -> Prefixes:
    """(ours, theirs) pairs."""
    return tuple((ours, theirs) for theirs, ours in prefixes)


def _blocks(blocks: Sequence[int]):
    return ((group, index) for group, count in enumerate(blocks, start=1) for index in range(count))


MOBILENET_V2: Dict[str, Prefixes] = {
    'torchvision': torchvision_mobilenet_v2(), 'timm': timm_mobilenet_v2(), 'mmpretrain': ()}
