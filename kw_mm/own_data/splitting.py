"""Splitting the images of one annotation file into training and validation."""

import random
from typing import Any

from ..errors import UserError

LEAST_IMAGES = 2


def split_content(
    content: dict[str, Any], share: float, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two annotation files' contents of one: (training, validation).

    Images are drawn by a seeded shuffle of their file names, so that the same export gives the same
    split on every machine. Both parts keep all categories.

    Args:
        content: What the file holds.
        share: Of the images that are for validation, between 0 and 1.
        seed: Of the shuffle.

    Raises:
        UserError: There are fewer than two images.
    """
    images = sorted(content['images'], key=lambda image: image['file_name'])
    if len(images) < LEAST_IMAGES:
        raise UserError(
            f'a data set must have {LEAST_IMAGES} images or more to be split, got {len(images)}; '
            'name a file of other images: new-config train=FILE val=FILE'
        )
    random.Random(seed).shuffle(images)
    number = min(max(1, round(share * len(images))), len(images) - 1)
    return _part(content, images[number:]), _part(content, images[:number])


def _part(content: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    ids = {image['id'] for image in images}
    annotations = [one for one in content['annotations'] if one['image_id'] in ids]
    return {
        **content,
        'images': [image for image in content['images'] if image['id'] in ids],
        'annotations': annotations,
        'categories': list(content['categories']),
    }
