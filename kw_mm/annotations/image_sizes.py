"""The size of an image, compared with that for which its annotations are made."""

from collections.abc import Sequence
from typing import Any


def other_size(info: dict[str, Any], size: Sequence[int] | None) -> str | None:
    """A sentence about an image that has another size than its annotations are made for.

    Args:
        info: What the dataset knows of the image: ``img_path``, ``height`` and ``width``.
        size: (height, width) as it was loaded, if that is known.

    Returns:
        str, optional: None if the sizes are equal, or one of them is not known.
    """
    stated = info.get('height'), info.get('width')
    if size is None or None in stated or tuple(size[:2]) == stated:
        return None
    why = 'was it resized after it was annotated?'
    if tuple(size[1::-1]) == stated:
        why = (
            'either its EXIF orientation turns it (store it upright, or load it with '
            "color_type='color_ignore_orientation'), or the file has width and height swapped"
        )
    return (
        f'image {info.get("img_path")!r} is loaded with size {size[1]} x {size[0]}, but its '
        f'annotations are made for {stated[1]} x {stated[0]} (width x height); {why} '
        '(--skip-bad-images trains without it)'
    )
