"""What is odd in a data set, each in one sentence, for whoever is about to train on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv

from ..annotations.image_sizes import other_size
from ..validation import few

FEW_INSTANCES = 10
LOOKED_AT = 16  # images opened to compare their sizes
SMALL_SIDE = 320  # pixels, below which the configs' scales enlarge images much
AUGMENTED = '.rf.'  # Roboflow writes NAME.rf.HASH.jpg for each augmented copy of an image
MOST_NAMED = 5

Content = dict[str, Any]


def classes_of(contents: Mapping[str, Content]) -> tuple[list[str], list[str]]:
    """The classes of a data set's splits, and the categories that are none.

    A category that others name as their supercategory, and that no annotation has, is a group:
    Roboflow puts one of the data set's name first.

    Args:
        contents: {split: what its annotation file holds}.

    Returns:
        tuple: Names of the classes in the order of the first file that has them, names of groups.
    """
    names = dict.fromkeys(
        category['name'] for content in contents.values() for category in content['categories']
    )
    parents = {
        category.get('supercategory')
        for content in contents.values()
        for category in content['categories']
        if category.get('supercategory') != category['name']
    }
    used = {name for content in contents.values() for name in instances_of(content)}
    groups = [name for name in names if name in parents and name not in used]
    classes = [name for name in names if name not in groups]
    return (classes, groups) if classes else (groups, [])


def instances_of(content: Content) -> Counter[str]:
    """Numbers of annotations by the name of their category."""
    names = {category['id']: category['name'] for category in content['categories']}
    return Counter(
        names[one['category_id']] for one in content['annotations'] if one['category_id'] in names
    )


def with_masks(content: Content) -> int:
    """Number of annotations that have a mask."""
    return sum(bool(one.get('segmentation')) for one in content['annotations'])


def odd_classes(contents: Mapping[str, Content], classes: Sequence[str]) -> Iterator[str]:
    """What is odd about the classes, and about their instances."""
    numbers = {split: instances_of(content) for split, content in contents.items()}
    for split, title in (('train', 'training'), ('val', 'validation')):
        none = [repr(name) for name in classes if not numbers.get(split, {}).get(name)]
        if none and split in numbers:
            yield f'no {title} instance of {few(none, MOST_NAMED)}'
    scarce = [
        f'{name!r} ({number})'
        for name in classes
        if 0 < (number := numbers['train'][name]) < FEW_INSTANCES
    ]
    if scarce:
        yield f'fewer than {FEW_INSTANCES} training instances of {few(scarce, MOST_NAMED)}'
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(' '.join(name.lower().split()), []).append(repr(name))
    for names in alike.values():
        if len(names) > 1:
            yield f'classes {" and ".join(names)} differ only in case or spaces: are they one?'


def odd_images(contents: Mapping[str, Content]) -> Iterator[str]:
    """What is odd about the lists of images."""
    train = contents['train']
    annotated = {one['image_id'] for one in train['annotations']}
    empty = [image for image in train['images'] if image['id'] not in annotated]
    if empty:
        yield (
            f'{len(empty)} of {len(train["images"])} training images have no annotation; they are '
            'left out, unless train_dataloader.dataset.filter_cfg.filter_empty_gt is False'
        )
    sides = sorted(min(image['width'], image['height']) for image in train['images'])
    if sides and sides[len(sides) // 2] < SMALL_SIDE:
        yield (
            f'images are small (median of the shorter side: {sides[len(sides) // 2]} pixels), and '
            "the base config's scales enlarge them; smaller scales in its pipelines train faster"
        )
    for split in set(contents) - {'train'}:
        both = {_origin(image) for image in train['images']} & {
            _origin(image) for image in contents[split]['images']
        }
        if both:
            yield (
                f'{len(both)} images of {split!r} have the name of a training image '
                f'({few(sorted(both))}): are they the same, or augmented copies?'
            )


def odd_annotations(contents: Mapping[str, Content]) -> Iterator[str]:
    """What is odd about the annotations, apart from what costs some of them."""
    for split, content in contents.items():
        scored = sum('score' in one for one in content['annotations'])
        if scored:
            yield f'{scored} annotations of {split!r} have a score: are they predictions?'


def odd_sizes(content: Content, folder: Path) -> Iterator[str]:
    """The first image, of a few that are opened, with another size than its annotations'."""
    images = content['images']
    for image in images[:: max(1, len(images) // LOOKED_AT)]:
        path = folder / image['file_name']
        pixels = mmcv.imread(str(path)) if path.is_file() else None
        if pixels is None:
            if path.is_file():
                yield f'image {str(path)!r} cannot be read'
                return
            continue
        problem = other_size(
            dict(img_path=str(path), height=image['height'], width=image['width']), pixels.shape
        )
        if problem:
            yield problem
            return


def _origin(image: dict[str, Any]) -> str:
    return str(image['file_name']).split(AUGMENTED)[0]
