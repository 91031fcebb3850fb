"""What makes a COCO annotation file unusable, as a sentence about its first bad entry."""

from collections.abc import Iterable, Sequence
from typing import Any

from .segmentations import FLAGS, LARGEST, LARGEST_AREA, check_segmentation

FIELDS = dict(
    images=('id', 'file_name', 'height', 'width'),
    annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
    categories=('id', 'name'),
)
MOST_SHOWN = 120  # characters of an entry


def problem_in(
    content: Any, masks: bool = False, classes: Sequence[str] = (), annotated: bool = True
) -> str | None:
    """A sentence about the first thing in an annotation file that cannot be read as what it is.

    Args:
        content: What the file holds.
        masks: Whether annotations need a segmentation.
        classes: Names, of which a file has one category each; others may come twice.
        annotated: Whether there must be annotations at all.

    Returns:
        str, optional: To be put behind the file's name; None if nothing is wrong.
    """
    if not isinstance(content, dict):
        return (
            f'holds a {type(content).__name__}, not an object with the fields {", ".join(FIELDS)}'
        )
    for field, keys in FIELDS.items():
        entries = content.get(field)
        if field == 'annotations' and entries is None and not annotated:
            continue
        if not isinstance(entries, list):
            return (
                f'lacks the list {field!r}' if field not in content else f'has no list in {field!r}'
            )
        if masks and field == 'annotations':
            keys = (*keys, 'segmentation')
        problem = _problem_of_entries(field, entries, keys)
        if problem:
            return problem
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    annotations = content.get('annotations') or ()
    problems = (
        _problem_of_names(content['images'], content['categories'], classes),
        *(
            problem_of_annotation(index, one, sizes if masks else None)
            for index, one in enumerate(annotations)
        ),
        None if content['images'] else 'lists no images',
    )
    return next(filter(None, problems), None)


def problem_of_annotation(
    index: int, one: dict[str, Any], sizes: dict[Any, Any] | None
) -> str | None:
    """What is wrong with the values of an annotation that has all its fields.

    Args:
        index: Its place in the file.
        one: The annotation.
        sizes: (width, height) by id of image, where its segmentation is needed.
    """
    where = f'in annotations[{index}] (id {one["id"]!r})'
    for field in ('image_id', 'category_id'):
        if not isinstance(one[field], (int, float, str)):
            return f'has {field}={_quoted(one[field])} {where}, where an id is meant'
    box = one['bbox']
    if not isinstance(box, list) or len(box) != 4 or not _numbers(box, LARGEST):
        return f'has bbox={_quoted(box)} {where}, where [x, y, width, height] in pixels is meant'
    if not _numbers([one['area']], LARGEST_AREA):
        return f'has area={_quoted(one["area"])} {where}, where a number of pixels is meant'
    for flag in ('iscrowd', 'ignore'):
        if one.get(flag) not in FLAGS:
            return f'has {flag}={_quoted(one[flag])} {where}, where 0 or 1 is meant'
    if sizes is not None:
        try:
            drawn, _ = check_segmentation(one['segmentation'], sizes.get(one['image_id']), box)
        except ValueError as error:
            return f'has segmentation={_quoted(one["segmentation"])} {where}, {error}'
        if not drawn:
            return (
                f'has segmentation={_quoted(one["segmentation"])} {where}, without a polygon of '
                'three points'
            )
    return None


def _problem_of_entries(field: str, entries: list[Any], keys: tuple[str, ...]) -> str | None:
    seen: dict[Any, int] = {}
    for index, entry in enumerate(entries):
        lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if lacking:
            return f'lacks {lacking[0]!r} in {field}[{index}]: {_quoted(entry)}'
        if isinstance(entry['id'], bool) or not isinstance(entry['id'], (int, str)):
            return f'has id={_quoted(entry["id"])} in {field}[{index}], where an integer is meant'
        if seen.setdefault(entry['id'], index) != index:
            first = seen[entry['id']]
            return f'gives {field}[{first}] and {field}[{index}] the same id {entry["id"]!r}'
    types = {type(entry['id']): index for index, entry in enumerate(entries)}
    if len(types) > 1 and field != 'annotations':
        one, other = types.values()
        return (
            f'has ids of two types: {entries[one]["id"]!r} in {field}[{one}] and '
            f'{entries[other]["id"]!r} in {field}[{other}]; make all of them integers'
        )
    return None


def _problem_of_names(
    images: list[dict[str, Any]], categories: list[dict[str, Any]], classes: Iterable[str]
) -> str | None:
    for field, key, entries in (
        ('images', 'file_name', images),
        ('categories', 'name', categories),
    ):
        for index, entry in enumerate(entries):
            if not isinstance(entry[key], str) or not entry[key]:
                return (
                    f'has {key}={_quoted(entry[key])} in {field}[{index}] (id {entry["id"]!r}), '
                    'where a name is meant'
                )
    seen: dict[str, int] = {}
    for index, category in enumerate(categories):
        name = category['name']
        if seen.setdefault(name, index) != index and name in classes:
            return (
                f'gives categories[{seen[name]}] (id {categories[seen[name]]["id"]!r}) and '
                f'categories[{index}] (id {category["id"]!r}) the same name {name!r}; '
                'make them one category'
            )
    return None


def _numbers(values: list[Any], largest: float) -> bool:
    return all(
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -largest < value < largest
        for value in values
    )


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f'{text[:MOST_SHOWN]}...'
