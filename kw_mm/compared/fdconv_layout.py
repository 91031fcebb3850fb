"""The published FDConv layer's state dict in our names and shapes.

There, the attentions are ``KSM_Global``, ``KSM_Local`` and ``FBM``, linear maps are 1x1
convolutions, and each band has a convolution of its own.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

SPECTRUM = 'dft_weight'
NAMES_IN_FDCONV = (
    ('KSM_Global.bn.', 'attention.norm.'),
    ('KSM_Global.', 'attention.'),
    ('KSM_Local.', 'local_attention.'),
)
BAND = re.compile(r'FBM\.freq_weight_conv_list\.(\d+)\.(weight|bias)')
MARKS = ('KSM_Global.', 'KSM_Local.', 'FBM.')


def is_published(keys: Mapping[str, Tensor]) -> bool:
    """Whether a layer's keys are those of a published one, its attentions included."""
    return any(key.startswith(MARKS) for key in keys)


def from_published_layer(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published layer's entries under our names; those that are ours already stay as they are."""
    found: dict[str, Tensor] = {}
    bands: dict[str, list[tuple[int, Tensor]]] = {}
    for key, value in entries.items():
        band = BAND.fullmatch(key)
        if band:
            bands.setdefault(band[2], []).append((int(band[1]), value))
            continue
        name = next(
            (ours + key[len(old) :] for old, ours in NAMES_IN_FDCONV if key.startswith(old)), key
        )
        is_linear = name.startswith('attention.') and value.dim() == 4
        found[name] = value.flatten(1) if is_linear else value
    for part, values in bands.items():
        ordered = [value for _, value in sorted(values, key=lambda pair: pair[0])]
        found[f'band_attention.{part}'] = torch.cat(ordered)
    return found
