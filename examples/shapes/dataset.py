"""Writing the set to disk, in the layout of COCO 2017.

    root/
      train2017/000000000001.jpg ...
      val2017/000000000001.jpg ...
      annotations/instances_train2017.json, instances_val2017.json
      shapes.json                  the parameters it was made with

mmdet reads it as any COCO set: `CocoDataset` with
`metainfo=dict(classes=CLASSES, palette=PALETTE)`.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from .scene import OUTLINES, Instance, draw_scene

CLASSES = tuple(OUTLINES)
# RGB, one per class
PALETTE = [(230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 190, 60), (132, 100, 200)]

# raise it with every change to what is drawn, so that an older set isn't taken for a new one
VERSION = 1
SPLITS = ('train', 'val')
MIN_SIZE = 32


def write_shapes(
    root: str | Path, *, num_train: int = 1000, num_val: int = 200, size: int = 128, seed: int = 0
) -> Path:
    """Write the set, or find it already there.

    An image depends only on `seed`, its split and its index: a larger set begins with the images of
    a smaller one. Everything is written next to `root` and renamed at the end, so `root` is there
    completely or not at all.

    Args:
        root: the folder to make; its parents are made too.
        num_train: how many training images.
        num_val: how many validation images.
        size: side of the square images, in pixels.
        seed: picks the set.

    Returns:
        The resolved `root`.

    Raises:
        ValueError: a count is below 1, `size` below 32 or `seed` below 0.
        FileExistsError: `root` holds anything but the set asked for.

    Example:
        >>> root = write_shapes('data/shapes', num_train=8, num_val=4)
        >>> sorted(path.name for path in root.iterdir())
        ['annotations', 'shapes.json', 'train2017', 'val2017']
    """
    parameters = dict(num_train=num_train, num_val=num_val, size=size, seed=seed)
    for (name, value), least in zip(parameters.items(), (1, 1, MIN_SIZE, 0)):
        if value < least:
            raise ValueError(f'{name}={value} is too small: give {least} or more')
    root = Path(root).resolve()
    if _is_ready(root, parameters):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{root.name}-', dir=root.parent) as workshop:
        draft = Path(workshop) / root.name
        for split, count in zip(SPLITS, (num_train, num_val)):
            _write_split(draft, split, count, size, seed)
        _write_json(draft / 'shapes.json', dict(parameters, version=VERSION))
        try:
            draft.rename(root)
        except OSError:  # another process, asked for the same set, may have been faster
            if not _is_ready(root, parameters):
                raise
    return root


def _is_ready(root: Path, parameters: dict[str, int]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / 'shapes.json').read_text())
    except (OSError, ValueError):
        raise FileExistsError(
            f'{root} exists and is not a shapes set: remove it, or give another folder'
        ) from None
    wanted = dict(parameters, version=VERSION)
    if found != wanted:
        raise FileExistsError(
            f'{root} holds a shapes set made with {found}, not {wanted}: remove it, or give '
            'another folder'
        )
    return True


def _write_split(root: Path, split: str, count: int, size: int, seed: int) -> None:
    folder = root / f'{split}2017'
    folder.mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        pixels, instances = draw_scene(rng, size)
        image = dict(id=index + 1, file_name=f'{index + 1:012d}.jpg', width=size, height=size)
        path = folder / image['file_name']
        if not cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f'could not write {path}')
        images.append(image)
        for instance in instances:
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image['id'], **_annotation(instance))
            )
    _write_json(
        root / 'annotations' / f'instances_{split}2017.json',
        dict(
            info=dict(description=f'kw_mm shapes, {split}', version=str(VERSION), year=2025),
            licenses=[],
            images=images,
            annotations=annotations,
            categories=[
                dict(id=label + 1, name=name, supercategory='shape')
                for label, name in enumerate(CLASSES)
            ],
        ),
    )


def _annotation(instance: Instance) -> dict:
    left, top, right, bottom = instance.visible.bounds
    return dict(
        category_id=instance.label + 1,
        iscrowd=0,
        area=round(instance.visible.area, 2),
        bbox=[round(value, 2) for value in (left, top, right - left, bottom - top)],
        segmentation=[
            np.round(part.exterior.coords[:-1], 2).ravel().tolist()
            for part in instance.visible.geoms
        ],
    )


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
