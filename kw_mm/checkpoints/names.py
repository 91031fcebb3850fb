"""How other projects call the weights of a network, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Prefixes = tuple[tuple[str, str], ...]

# (blocks of each group) of MobileNetV2; the first group does not expand
MOBILENET_V2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def rename(key: str, prefixes: Prefixes) -> str:
    """A key under its new prefix; unchanged where no old one fits."""
    return next((new + key[len(old) :] for old, new in prefixes if key.startswith(old)), key)


@dataclass(frozen=True)
class LayoutNames:
    """What a module's keys are called elsewhere.

    Args:
        warehouses: {K of the published ``warehouse_manager.weights.K``: our warehouse's name}.
        published: (theirs, ours) pairs of key prefixes in published KernelWarehouse files.
        static: The same for plain networks, by project; a project without pairs uses our names.
        foreign: Key prefixes of other modules of the same network, in any of these layouts.
        optional: Our key prefixes that a module has or not by its options, such as the norm of an
            output: a file may lack them (the module keeps its own) and may have more of them.
        resized: Our keys whose values the module itself brings to its shape, such as position
            embeddings.
        classifier: Prefix of the classifier's keys in published files.
        home: Prefix of the module's keys in a whole OpenMMLab model.
    """

    warehouses: Mapping[int, str] = field(default_factory=dict)
    published: Prefixes = ()
    static: Mapping[str, Prefixes] = field(default_factory=lambda: {'torchvision': ()})
    foreign: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    classifier: str = 'fc.'
    home: str = 'backbone.'

    def rename(self, key: str, prefixes: Prefixes) -> str | None:
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
        last = 1 if group == 1 else 2  # position of the projecting convolution
        for i in range(last):
            pairs += [
                (f'{theirs}.{i}.0.', f'{ours}.{i}.conv.'),
                (f'{theirs}.{i}.1.', f'{ours}.{i}.bn.'),
            ]
        pairs += [
            (f'{theirs}.{last}.', f'{ours}.{last}.conv.'),
            (f'{theirs}.{last + 1}.', f'{ours}.{last}.bn.'),
        ]
    return (
        *pairs,
        (f'features.{number + 1}.0.', 'conv2.conv.'),
        (f'features.{number + 1}.1.', 'conv2.bn.'),
    )


def timm_mobilenet_v2(blocks: Sequence[int] = MOBILENET_V2_BLOCKS) -> Prefixes:
    """timm's names of MobileNetV2 and mmpretrain's."""
    pairs = [
        ('conv_stem.', 'conv1.conv.'),
        ('bn1.', 'conv1.bn.'),
        ('conv_head.', 'conv2.conv.'),
        ('bn2.', 'conv2.bn.'),
    ]
    for group, index in _blocks(blocks):
        names = ('conv_dw', 'conv_pw') if group == 1 else ('conv_pw', 'conv_dw', 'conv_pwl')
        for i, conv in enumerate(names):
            theirs, ours = f'blocks.{group - 1}.{index}', f'layer{group}.{index}.conv.{i}'
            pairs += [
                (f'{theirs}.{conv}.', f'{ours}.conv.'),
                (f'{theirs}.bn{i + 1}.', f'{ours}.bn.'),
            ]
    return tuple(pairs)


def facebook_convnext(depths: Sequence[int], outputs: Sequence[int] = ()) -> Prefixes:
    """Names of ConvNeXt's own repository, which the published KernelWarehouse files share, and mmpretrain's.

    A classifier's only norm is ``norm``; with several ``outputs`` every one has its own ``normK``.
    """
    last = f'norm{len(depths) - 1}.'
    pairs = [(last, last)] if len(outputs) > 1 else []
    pairs.append(('norm.', last))
    for stage, index in _blocks(depths, first=0):
        block = f'stages.{stage}.{index}'
        pairs += [
            (f'{block}.dwconv.', f'{block}.depthwise_conv.'),
            (f'{block}.pwconv1.', f'{block}.pointwise_conv1.'),
            (f'{block}.pwconv2.', f'{block}.pointwise_conv2.'),
        ]
    return tuple(pairs)


def timm_convnext(depths: Sequence[int]) -> Prefixes:
    """timm's names of ConvNeXt and mmpretrain's."""
    pairs = [('stem.', 'downsample_layers.0.'), ('head.norm.', f'norm{len(depths) - 1}.')]
    pairs += [
        (f'stages.{stage}.downsample.', f'downsample_layers.{stage}.')
        for stage in range(1, len(depths))
    ]
    for stage, index in _blocks(depths, first=0):
        theirs, ours = f'stages.{stage}.blocks.{index}', f'stages.{stage}.{index}'
        pairs += [
            (f'{theirs}.conv_dw.', f'{ours}.depthwise_conv.'),
            (f'{theirs}.mlp.fc1.', f'{ours}.pointwise_conv1.'),
            (f'{theirs}.mlp.fc2.', f'{ours}.pointwise_conv2.'),
            (f'{theirs}.', f'{ours}.'),
        ]
    return tuple(pairs)


def torchvision_convnext(depths: Sequence[int]) -> Prefixes:
    """torchvision's names of ConvNeXt and mmpretrain's."""
    pairs = [('classifier.0.', f'norm{len(depths) - 1}.')]
    pairs += [
        (f'features.{2 * stage}.', f'downsample_layers.{stage}.') for stage in range(len(depths))
    ]
    for stage, index in _blocks(depths, first=0):
        theirs, ours = f'features.{2 * stage + 1}.{index}', f'stages.{stage}.{index}'
        pairs += [
            (f'{theirs}.block.0.', f'{ours}.depthwise_conv.'),
            (f'{theirs}.block.2.', f'{ours}.norm.'),
            (f'{theirs}.block.3.', f'{ours}.pointwise_conv1.'),
            (f'{theirs}.block.5.', f'{ours}.pointwise_conv2.'),
            (f'{theirs}.layer_scale', f'{ours}.gamma'),
        ]
    return tuple(pairs)


def convnext(depths: Sequence[int]) -> dict[str, Prefixes]:
    """Names of plain ConvNeXts, by project."""
    return {
        'facebook': facebook_convnext(depths),
        'timm': timm_convnext(depths),
        'torchvision': torchvision_convnext(depths),
        'mmpretrain': (),
    }


def timm_vision_transformer(num_layers: int) -> Prefixes:
    """timm's (and DeiT's own) names of a vision transformer and mmpretrain's."""
    pairs = [('patch_embed.proj.', 'patch_embed.projection.'), ('norm.', 'ln1.')]
    parts = (
        ('norm1.', 'ln1.'),
        ('norm2.', 'ln2.'),
        ('attn.', 'attn.'),
        ('mlp.fc1.', 'ffn.layers.0.0.'),
        ('mlp.fc2.', 'ffn.layers.1.'),
    )
    for index in range(num_layers):
        pairs += [(f'blocks.{index}.{theirs}', f'layers.{index}.{ours}') for theirs, ours in parts]
    return tuple(pairs)


def reverse(prefixes: Prefixes) -> Prefixes:
    """(ours, theirs) pairs."""
    return tuple((ours, theirs) for theirs, ours in prefixes)


def _blocks(blocks: Sequence[int], first: int = 1):
    return (
        (group, index) for group, count in enumerate(blocks, start=first) for index in range(count)
    )


MOBILENET_V2: dict[str, Prefixes] = {
    'torchvision': torchvision_mobilenet_v2(),
    'timm': timm_mobilenet_v2(),
    'mmpretrain': (),
}
