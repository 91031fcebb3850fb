"""The layout of the published ODConv checkpoints (https://github.com/OSVAI/ODConv).

Keys are those of a torchvision-style network; the attention branch's linear maps are 1x1
convolutions there, and its norm is called ``bn``. The temperature is not in such a file: a module
keeps its own, by default the 1 that training ends with.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from .names import LayoutNames

THEIR_NORM, OUR_NORM = '.attention.bn.', '.attention.norm.'


def from_odconv(
    module: nn.Module, names: LayoutNames, entries: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Published entries under our names, and the keys that belong to another module of the network."""
    used, foreign = {}, []
    for key, value in entries.items():
        ours = names.rename(key, names.published)
        if ours is None:
            foreign.append(key)
        elif '.attention.' in ours and value.dim() == 4 and value[0, 0].numel() == 1:
            used[ours] = value.flatten(1)
        else:
            used[ours.replace(THEIR_NORM, OUR_NORM)] = value
    return used, foreign
