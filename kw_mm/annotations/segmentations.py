"""Masks of COCO annotations: polygons and run lengths, checked without drawing them."""

from typing import Any

FLAGS = (0, 1, None)  # of iscrowd and ignore
LARGEST = 1e6  # pixels
LARGEST_AREA = LARGEST**2
LEAST = 6  # numbers of a polygon: three points


def check_segmentation(
    segmentation: Any, size: tuple[int, int] | None, box: list[float]
) -> tuple[bool, bool]:
    """Check a segmentation that a mask is to be made of.

    Args:
        segmentation: Polygons, ``[[x1, y1, x2, y2, ...], ...]``, or run lengths,
            ``dict(size=[height, width], counts=...)``.
        size: (width, height) of the image, if it is known.
        box: [x, y, width, height] of the annotation.

    Returns:
        tuple: Whether there is something to draw, a polygon of three points or run lengths, and
        whether it lies where the box does: the mean of a polygon's points is in their bounding box.

    Raises:
        ValueError: What it must be, where it is something else.
    """
    if segmentation.__class__ is list and segmentation:
        return _check_polygons(segmentation, *box)
    if segmentation.__class__ is dict:
        check_run_lengths(segmentation, size)
        return True, True
    raise ValueError(
        'where polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or run lengths are meant; remove the '
        'annotation, or train without masks'
    )


def _check_polygons(
    polygons: list[Any], x: float, y: float, width: float, height: float
) -> tuple[bool, bool]:
    drawn, inside = False, True
    try:
        for polygon in polygons:
            if polygon.__class__ is not list:
                raise TypeError
            across, down = sum(polygon[::2]), sum(polygon[1::2])
            if not (-LARGEST_AREA < across < LARGEST_AREA and -LARGEST_AREA < down < LARGEST_AREA):
                raise TypeError  # not finite
            number = len(polygon)
            if number >= LEAST and number % 2 == 0:
                drawn = True
                number //= 2  # of points; a pixel is allowed for rounding
                inside = inside and (
                    (x - 1) * number <= across <= (x + width + 1) * number
                    and (y - 1) * number <= down <= (y + height + 1) * number
                )
    except TypeError as error:
        raise ValueError(
            'where each polygon is a list of numbers [x1, y1, x2, y2, x3, y3, ...]'
        ) from error
    return drawn, inside


def check_run_lengths(segmentation: dict[str, Any], size: tuple[int, int] | None) -> None:
    """Check run lengths: their size is the image's, and they cover it.

    Raises:
        ValueError: What they must be.
    """
    counts, stated = segmentation.get('counts'), segmentation.get('size')
    if (
        not isinstance(counts, (list, str))
        or not counts
        or not isinstance(stated, list)
        or len(stated) != 2
        or not all(type(side) is int and side > 0 for side in stated)
    ):
        raise ValueError('where run lengths are dict(size=[height, width], counts=...)')
    if size is not None and tuple(stated) != size[::-1]:
        raise ValueError(
            f'but its image has width {size[0]} and height {size[1]}: run lengths must have the '
            'size of the image'
        )
    pixels = stated[0] * stated[1]
    try:
        covered = sum(counts if isinstance(counts, list) else decoded(counts))
        negative = isinstance(counts, list) and min(counts) < 0
    except TypeError as error:
        raise ValueError('where counts are numbers of pixels') from error
    if covered != pixels or negative:
        raise ValueError(
            f'whose counts are of {covered} pixels, where {stated[0]} x {stated[1]} are {pixels}'
        )


def decoded(counts: str) -> list[int]:
    """Run lengths of COCO's compressed string, as pycocotools encodes them.

    Five bits a character, from the lowest, 32 marks that more follow; from the third number on it
    is the difference to the one before the last.

    Raises:
        TypeError: The string is cut short or has other characters.
    """
    numbers: list[int] = []
    value = shift = 0
    for character in counts.encode():
        bits = character - 48
        if not 0 <= bits < 64:
            raise TypeError(f'{counts!r} has other characters')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    if shift or any(number < 0 for number in numbers):
        raise TypeError(f'{counts!r} is cut short')
    return numbers
