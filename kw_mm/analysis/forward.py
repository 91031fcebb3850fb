"""Running a classifier, a detector or a backbone once, without data."""

import torch
from torch import Tensor, nn

from ..errors import UserError

BOXES, MASKS = 1000, 100  # of an image, as mmdet's own counting and the papers' figures have it


def forward_once(model: nn.Module, size: tuple[int, int]) -> None:
    """Run a model on one blank image.

    The heads of a two-stage detector run on features of 1000 boxes, and 100 for masks, so that what
    they cost does not depend on what an untrained detector finds.

    Args:
        model: An OpenMMLab classifier, detector or segmentor, or a backbone.
        size: (height, width) of the image.

    Raises:
        UserError: A detector with several stages of heads.
    """
    model.eval()
    image = torch.zeros(1, 3, *size)
    if hasattr(model, 'roi_head'):
        _two_stages(model, image)
    elif hasattr(model, 'extract_feat'):
        model(image, mode='tensor')
    else:
        model(image)


def _two_stages(model: nn.Module, image: Tensor) -> None:
    features = model.extract_feat(image)
    if model.with_rpn:
        model.rpn_head(features)
    heads = model.roi_head
    if isinstance(heads.bbox_head, nn.ModuleList) or heads.with_shared_head:
        raise UserError(
            f'multiply-adds of a {type(heads).__name__} with cascaded or shared heads are not counted; '
            'those of a StandardRoIHead (Faster R-CNN, Mask R-CNN) are'
        )
    heads.bbox_head(_regions(heads.bbox_roi_extractor, BOXES))
    if heads.with_mask:
        heads.mask_head(_regions(heads.mask_roi_extractor, MASKS))


def _regions(extractor: nn.Module, count: int) -> Tensor:
    return torch.zeros(count, extractor.out_channels, *extractor.roi_layers[0].output_size)
