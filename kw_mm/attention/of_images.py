"""The attention that a model of a config pays to its cells for some images."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch import Tensor, nn

from ..errors import UserError
from ..warehouse import kw_layers
from .recorder import AttentionRecorder
from .samples import Sample
from .statistics import WarehouseAttention, gather_attention


def check_warehouses(model: nn.Module, config: str) -> None:
    """Raises UserError for a model without KW layers."""
    if not kw_layers(model):
        raise UserError(
            f'the model of config {config!r} has no warehouses to look into; give one with a KW backbone, '
            'e.g. configs/mask_rcnn_kw_r50_1x_coco.py'
        )


@torch.no_grad()
def attention_of(model: nn.Module, samples: Sequence[Sample]) -> list[WarehouseAttention]:
    """Run a model on images, one by one, and gather the attention of its layers by warehouse.

    Of a layer that runs several times for an image (on regions, on several feature maps) the mean
    is kept; one that does not run for every image is left out.

    Args:
        model: An OpenMMLab classifier, detector or segmentor; it is moved to the GPU where there is
            one.
        samples: At least one.
    """
    model.eval().to(get_device())
    seen: dict[str, list[Tensor]] = {}
    with AttentionRecorder(kw_layers(model)) as recorder:
        for sample in samples:
            model.test_step(pseudo_collate([sample.data]))
            for name, alpha in recorder.take().items():
                seen.setdefault(name, []).append(alpha.mean(dim=0))
    recorded = {
        name: torch.stack(parts) for name, parts in seen.items() if len(parts) == len(samples)
    }
    return gather_attention(model, recorded)


def find_checkpoints(path: str) -> list[str]:
    """Checkpoints of a work dir, ``epoch_*.pth`` or ``iter_*.pth``, in the order of training; or the file itself.

    Raises:
        UserError: A folder without any.
    """
    if not Path(path).is_dir():
        return [path]
    numbered = [
        (int(match.group(2)), str(file))
        for file in Path(path).glob('*.pth')
        for match in [re.fullmatch(r'(epoch|iter)_(\d+)', file.stem)]
        if match
    ]
    if not numbered:
        raise UserError(f'no checkpoint epoch_*.pth or iter_*.pth in {path!r}')
    return [file for _, file in sorted(numbered)]
