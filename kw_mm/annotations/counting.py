"""Counting, in one pass over a COCO annotation file, what training or evaluation can use of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import AnnotationError
from .problems import problem_in
from .segmentations import FLAGS, LARGEST, LARGEST_AREA, check_segmentation

UNKNOWN_IMAGE = 'of images that are not in the file'
OTHER_TYPE_OF_IMAGE = "whose image_id is of another type than the images' ids"
NO_SIZE = 'whose width or height is null, below 1 or not a number of pixels'
OF_NO_SIZE = f'of images {NO_SIZE}'
SMALL = 'smaller than filter_cfg.min_size'
OF_SMALL = f'of images {SMALL}'
NO_CATEGORY = 'of categories that are not in the file'
OTHER_TYPE_OF_CATEGORY = "whose category_id is of another type than the categories' ids"
OTHER_CLASS = 'of other classes'
IGNORED = 'marked with ignore'
OUTSIDE = 'with a box outside of their image'
SWAPPED = f'{OUTSIDE}, and inside if its width and height were swapped'
NO_AREA = 'with area 0 or below'
THIN = 'with a box narrower or lower than 1 pixel'
CROWD = 'crowds (iscrowd=1)'
NO_POLYGON = 'without a polygon of three points'
MEANT = (OTHER_CLASS, OF_SMALL, IGNORED)  # by who wrote the config or the file
MANY_CROWDS = 0.05  # COCO has 0.012


@dataclass
class Account:
    """What an annotation file gives to training or evaluation.

    Args:
        evaluated: Whether it is evaluated on.
        images: Number of images in the file.
        annotations: Number of annotations in the file.
        lost: Numbers of annotations that are not used and id of the first, by reason.
        lost_images: The same of images.
        displaced: Number of used annotations whose mask lies outside of their box, id of the first.
    """

    evaluated: bool
    images: int
    annotations: int
    lost: dict[str, list[Any]] = field(default_factory=dict)
    lost_images: dict[str, list[Any]] = field(default_factory=dict)
    displaced: list[Any] = field(default_factory=lambda: [0, None])

    @property
    def used(self) -> int:
        """How many annotations are used."""
        return self.annotations - sum(number for number, _ in self.lost.values())

    @property
    def surprising(self) -> bool:
        """Whether more is left out than who wrote config and file meant to."""
        crowds = self.lost.get(CROWD, [0])[0]
        return bool(
            set(self.lost) - {CROWD, *MEANT}
            or set(self.lost_images) - {SMALL}
            or crowds > MANY_CROWDS * self.annotations
            or self.displaced[0]
        )

    def reasons(self) -> str:
        """Why annotations are not used: '2 with area 0 or below (first: id 7), 1 ...'."""
        return _listed(self.lost)

    def summary(self, images: int | None = None) -> str:
        """One line about all of it.

        Args:
            images: How many images the dataset has, if that is known.
        """
        use = 'count in evaluation' if self.evaluated else 'reach training'
        left = self.annotations - self.used
        parts = [
            f'{self.used} of {self.annotations} annotations'
            + (f' and {images} of {self.images} images' if images is not None else '')
            + f' {use}'
        ]
        if left:
            parts.append(f'{_are(left, "annotation")} left out: {self.reasons()}')
        gone = dict(self.lost_images)
        filtered = self.images - sum(number for number, _ in gone.values()) - (images or 0)
        if images is not None and filtered > 0:
            gone["without an annotation of the classes, or by the dataset's settings"] = [filtered]
        if gone:
            number = sum(entry[0] for entry in gone.values())
            parts.append(f'{_are(number, "image")} left out: {_listed(gone)}')
        if self.displaced[0]:
            number, first = self.displaced
            parts.append(
                f'the masks of {number} annotations lie outside of their boxes '
                f'(first: id {first!r})'
            )
        return '; '.join(parts)


def count(
    content: Any,
    name: str,
    classes: Sequence[str],
    *,
    masks: bool = False,
    evaluated: bool = False,
    min_size: float = 0,
) -> Account:
    """Check all values of an annotation file, and count what can be used.

    Training leaves out what mmdet's ``CocoDataset`` leaves out without a word. Images without a
    size are taken out of ``content``, with a size in floats get integers.

    Args:
        content: What the file holds.
        name: The file's name, for errors.
        classes: Names of the classes that are trained on.
        masks: Whether annotations need a segmentation.
        evaluated: Whether it is evaluated on; nothing can then be left out of ``content``.
        min_size: Least width and height of images that are trained on.

    Raises:
        AnnotationError: A value that cannot be read as what it is; names entry and field.
    """
    try:
        return _count(content, classes, masks, evaluated, min_size)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        problem = problem_in(content, masks, classes, annotated=not evaluated) or (
            str(error) or 'holds a value that cannot be read'
        )
        raise AnnotationError(f'annotation file {name!r} {problem}') from error


def _count(
    content: Any, classes: Sequence[str], masks: bool, evaluated: bool, min_size: float
) -> Account:
    images, annotations = content['images'], content.get('annotations') or []
    account = Account(evaluated, len(images), len(annotations))
    categories = content['categories']
    named = all(category['name'].__class__ is str for category in categories)
    if not named or not images or not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError('fields')
    _check_ids(images, annotations, categories)
    wanted = {category['id'] for category in categories if category['name'] in classes}
    if len(wanted) != len({category['name'] for category in categories} & set(classes)):
        raise ValueError('two categories of one name')
    sizes = _sizes(content, account, min_size)
    explained = _Explained(images, sizes, categories)
    for one in annotations:
        reason = _reason(one, sizes, wanted, masks, evaluated, account)
        if reason:
            _note(account.lost, explained.reason(reason, one), one['id'])
    return account


def _check_ids(*fields: list[dict[str, Any]]) -> None:
    for entries in fields:
        ids = [entry['id'] for entry in entries]
        types = set(map(type, ids))
        # ids of annotations are only told apart, others are compared with those of annotations
        mixed = len(types) > 1 and entries is not fields[1]
        if len(set(ids)) < len(ids) or not types <= {int, str} or mixed:
            raise ValueError('ids')


def _sizes(
    content: dict[str, Any], account: Account, min_size: float
) -> dict[Any, tuple[int, int]]:
    """(width, height) of the images that can be used, by id; others are taken out."""
    sizes, kept = {}, []
    for index, image in enumerate(content['images']):
        if image['file_name'].__class__ is not str or not image['file_name']:
            raise ValueError('file_name')
        width, height = _pixels(image['width']), _pixels(image['height'])
        if width and height:
            kept.append(image)
            if width is not image['width'] or height is not image['height']:
                image.update(width=width, height=height)
            if min(width, height) < min_size and not account.evaluated:
                _note(account.lost_images, SMALL, image['id'])
            else:
                sizes[image['id']] = (width, height)
        elif account.evaluated:
            raise ValueError(
                f'has width={image["width"]!r} and height={image["height"]!r} in images[{index}] '
                f'(id {image["id"]!r}), where numbers of pixels are meant'
            )
        else:
            _note(account.lost_images, NO_SIZE, image['id'])
    if len(kept) < len(content['images']):
        content['images'] = kept
    return sizes


def _pixels(side: Any) -> int:
    """A side of an image as an integer, 0 if it is none."""
    if side.__class__ is int and 1 <= side < LARGEST:
        return side
    if side.__class__ is float and 1 <= side < LARGEST and side == int(side):
        return int(side)
    return 0


def _reason(
    one: dict[str, Any],
    sizes: dict[Any, tuple[int, int]],
    wanted: set[Any],
    masks: bool,
    evaluated: bool,
    account: Account,
) -> str:
    """Why an annotation is not used, in the order in which mmdet asks; empty if it is."""
    size = sizes.get(one['image_id'])
    if size is None:
        return UNKNOWN_IMAGE
    if one.get('ignore'):
        if one['ignore'] not in FLAGS:
            raise ValueError
        if not evaluated:
            return IGNORED
    x, y, w, h = box = one['bbox']
    if not (
        -LARGEST < x < LARGEST
        and -LARGEST < y < LARGEST
        and -LARGEST < w < LARGEST
        and -LARGEST < h < LARGEST
        and -LARGEST_AREA < one['area'] < LARGEST_AREA
    ):
        raise ValueError
    crowd = one.get('iscrowd')
    if crowd not in FLAGS:
        raise ValueError
    if one['category_id'] not in wanted:
        return OTHER_CLASS
    if not evaluated:
        if w < 1 or h < 1:
            return THIN
        if not (x < size[0] and y < size[1] and x + w > 0 and y + h > 0):
            return OUTSIDE
        if one['area'] <= 0:
            return NO_AREA
    if masks:
        drawn, inside = check_segmentation(one['segmentation'], size, box)
        if not drawn:
            if evaluated:
                raise ValueError('no polygon')
            return NO_POLYGON
        if not inside and not crowd:
            account.displaced[0] += 1
            account.displaced[1] = account.displaced[1] or one['id']
    return CROWD if crowd else THIN if w <= 0 or h <= 0 else ''


class _Explained:
    """Reasons more exactly, for which all entries are looked at when there is one to explain."""

    def __init__(self, images: list[Any], sizes: dict[Any, Any], categories: list[Any]) -> None:
        self.images, self.sizes, self.categories = images, sizes, categories
        self._known: dict[str, Any] = {}

    def reason(self, reason: str, one: dict[str, Any]) -> str:
        """What :func:`_reason` says of an annotation, in more detail."""
        if reason == UNKNOWN_IMAGE:
            image = self._find('images', self.images, one['image_id'])
            if image is None:
                return UNKNOWN_IMAGE
            if type(image['id']) is not type(one['image_id']):
                return OTHER_TYPE_OF_IMAGE
            return OF_SMALL if _pixels(image['width']) and _pixels(image['height']) else OF_NO_SIZE
        if reason == OTHER_CLASS:
            category = self._find('categories', self.categories, one['category_id'])
            if category is None:
                return NO_CATEGORY
            same = type(category['id']) is type(one['category_id'])
            return OTHER_CLASS if same else OTHER_TYPE_OF_CATEGORY
        if reason == OUTSIDE:
            width, height = self.sizes[one['image_id']]
            return SWAPPED if one['bbox'][0] < height and one['bbox'][1] < width else OUTSIDE
        return reason

    def _find(self, field: str, entries: list[Any], key: Any) -> dict[str, Any] | None:
        """The entry of an id, which may be written as another type."""
        if field not in self._known:
            self._known[field] = {str(entry['id']): entry for entry in entries}
        return self._known[field].get(str(key))


def _note(lost: dict[str, list[Any]], reason: str, key: Any) -> None:
    entry = lost.setdefault(reason, [0, key])
    entry[0] += 1


def _listed(lost: dict[str, list[Any]]) -> str:
    return ', '.join(
        f'{number} {reason}' + ''.join(f' (first: id {key!r})' for key in first)
        for reason, (number, *first) in lost.items()
    )


def _are(number: int, noun: str) -> str:
    return f'{number} {noun} is' if number == 1 else f'{number} {noun}s are'
