"""One picture of overlapping textured shapes, with the region of each that stays visible.

Regions are exact: outlines are shapely polygons, and what a later shape hides is subtracted
geometrically, so annotations carry sub-pixel corners instead of contours traced on a pixel grid. As
in COCO, pixel (x, y) covers [x, x+1) x [y, y+1). Colours and textures are drawn without looking at
the category: only the outline tells it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from shapely import affinity
from shapely.geometry import LineString, MultiPolygon, Polygon, box
from shapely.ops import split, unary_union

MAX_SHAPES = 6
MIN_VISIBLE = 0.5  # of its outline every shape shows: with less, what it is would be a guess
MIN_PART = 1.0  # px^2; thinner slivers of a region are left out
SUPERSAMPLING = 4


class Instance(NamedTuple):
    """A drawn shape.

    Args:
        label: its index in `OUTLINES`.
        visible: the region that is in sight, as polygons without holes, in pixels.
    """

    label: int
    visible: MultiPolygon


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Instance]]:
    """Draw 1 to `MAX_SHAPES` shapes over a textured background.

    Args:
        rng: the source of every random choice.
        size: side of the square image, in pixels.

    Returns:
        The image, uint8 RGB of shape (size, size, 3), and its instances from back to front, each
        with at least `MIN_VISIBLE` of its outline in sight.

    Example:
        >>> image, instances = draw_scene(np.random.default_rng(0), 160)
        >>> image.shape, instances[0].visible.area > 0
        ((160, 160, 3), True)
    """
    labels, outlines = _place_shapes(rng, size)
    image = 0.6 * _texture(rng, size, SMOOTH, spread=0.6) + 0.4 * _texture(
        rng, size, PATTERNS, spread=0.4
    )
    for outline in outlines:
        image = _paint(rng, image, outline)
    regions = [without_holes(region) for region in _visible_regions(outlines, size)]
    return np.uint8(np.clip(image, 0, 1) * 255), [Instance(*pair) for pair in zip(labels, regions)]


def without_holes(region: Polygon | MultiPolygon) -> MultiPolygon:
    """Cut a region into polygons without holes, all that a COCO polygon segmentation can hold.

    Returns:
        Polygons that touch but don't overlap and together cover `region`, less its parts under
        `MIN_PART` px^2.
    """
    done: list[Polygon] = []
    todo = [region]
    while todo:
        part = todo.pop()
        if part.geom_type != 'Polygon':
            todo.extend(part.geoms)
        elif part.interiors:
            x, (_, top, _, bottom) = part.interiors[0].centroid.x, part.bounds
            todo.append(split(part, LineString([(x, top - 1), (x, bottom + 1)])))
        elif part.area >= MIN_PART:
            done.append(part)
    return MultiPolygon(done)


# Outlines: the (n, 2) corners of a shape within the unit circle.


def _ellipse(rng: np.random.Generator) -> np.ndarray:
    return _on_circle(48)


def _rectangle(rng: np.random.Generator) -> np.ndarray:
    return 0.8 * np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])


def _triangle(rng: np.random.Generator) -> np.ndarray:
    return _on_circle(3)


def _star(rng: np.random.Generator) -> np.ndarray:
    corners = _on_circle(10)
    corners[1::2] *= rng.uniform(0.4, 0.55)
    return corners


def _cross(rng: np.random.Generator) -> np.ndarray:
    half, reach = rng.uniform(0.24, 0.36), 0.93
    arm = np.array([(half, reach), (half, half), (reach, half)])
    quarter_turn = np.array([(0, -1), (1, 0)])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


def _on_circle(corners: int) -> np.ndarray:
    angles = np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


OUTLINES: dict[str, Callable[[np.random.Generator], np.ndarray]] = dict(
    ellipse=_ellipse, rectangle=_rectangle, triangle=_triangle, star=_star, cross=_cross
)


# Geometry


def _place_shapes(rng: np.random.Generator, size: int) -> tuple[list[int], list[Polygon]]:
    wanted = rng.integers(1, MAX_SHAPES + 1)
    labels, outlines = [], []
    for _ in range(20 * wanted):  # a crowded image may get fewer than wanted
        label, outline = _random_shape(rng, size)
        together = [*outlines, outline]
        if all(
            region.area >= MIN_VISIBLE * whole.area
            for region, whole in zip(_visible_regions(together, size), together)
        ):
            labels.append(label)
            outlines.append(outline)
        if len(outlines) == wanted:
            break
    return labels, outlines


def _random_shape(rng: np.random.Generator, size: int) -> tuple[int, Polygon]:
    label = int(rng.integers(len(OUTLINES)))
    corners = list(OUTLINES.values())[label](rng)
    radius = size * np.exp(rng.uniform(np.log(0.13), np.log(0.3)))
    outline = affinity.scale(Polygon(corners), radius, radius * rng.uniform(0.6, 1), origin=(0, 0))
    outline = affinity.rotate(outline, rng.uniform(0, 360), origin=(0, 0))
    return label, affinity.translate(outline, *rng.uniform(0.12 * size, 0.88 * size, 2))


def _visible_regions(outlines: list[Polygon], size: int) -> list[Polygon | MultiPolygon]:
    frame = box(0, 0, size, size)
    return [
        outline.intersection(frame).difference(unary_union(outlines[i + 1 :]))
        for i, outline in enumerate(outlines)
    ]


# Paint: images are float RGB in [0, 1], of shape (size, size, 3).


def _paint(rng: np.random.Generator, image: np.ndarray, outline: Polygon) -> np.ndarray:
    size = len(image)
    cover = _coverage(outline, size)
    depth = cv2.distanceTransform(np.uint8(cover > 0.5), cv2.DIST_L2, 3) / (0.03 * size)
    bevel = 0.6 + 0.4 * np.clip(depth, 0, 1)[..., None]
    offset = np.float32([[1, 0, 0.02 * size], [0, 1, 0.02 * size]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(cover, offset, (size, size)), (0, 0), 0.02 * size)[
        ..., None
    ]
    fill = _texture(rng, size, PATTERNS, spread=0.25) * bevel
    cover = cover[..., None]
    return image * (1 - 0.5 * shadow) * (1 - cover) + fill * cover


def _coverage(outline: Polygon, size: int) -> np.ndarray:
    """The share of each pixel that lies inside the outline, float32 (size, size)."""
    canvas = np.zeros((size * SUPERSAMPLING,) * 2, np.float32)
    # OpenCV puts pixel centres at whole numbers
    corners = np.asarray(outline.exterior.coords) * SUPERSAMPLING - 0.5
    cv2.fillPoly(canvas, [np.int32(np.round(corners * 16))], 1.0, shift=4)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)


def _texture(
    rng: np.random.Generator, size: int, patterns: tuple[Pattern, ...], spread: float
) -> np.ndarray:
    """Two colours, `spread` apart, blended along one of the patterns, with some grain."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 0.9), rng.uniform(0.4, 1)
    other = (
        hue + spread * rng.uniform(-0.5, 0.5),
        saturation,
        value * (1 - spread * rng.uniform(0.5, 1.5)),
    )
    first, second = (
        np.array(colorsys.hsv_to_rgb(h % 1, s, v)) for h, s, v in ((hue, saturation, value), other)
    )
    pattern = patterns[rng.integers(len(patterns))](rng, size)[..., None]
    grain = rng.normal(0, rng.uniform(0.005, 0.025), (size, size, 1))
    return first + (second - first) * pattern + grain


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    return _ramp(size, _angle(rng)) + 0.5


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(3 * np.sin(_ramp(size, _angle(rng)) * rng.uniform(25, 90)))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    angle, pitch = _angle(rng), rng.uniform(25, 70)
    along, across = (
        np.sin(_ramp(size, direction) * pitch) for direction in (angle, angle + np.pi / 2)
    )
    return 0.5 + 0.5 * np.tanh(4 * along * across)


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    coarse = rng.uniform(0, 1, (int(rng.integers(4, 12)),) * 2)
    return np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def _ramp(size: int, angle: float) -> np.ndarray:
    """Distance along a direction, zero in the middle and in image sides, (size, size)."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    return np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]


def _angle(rng: np.random.Generator) -> float:
    return rng.uniform(0, 2 * np.pi)


Pattern = Callable[[np.random.Generator, int], np.ndarray]  # values in about [0, 1]
SMOOTH: tuple[Pattern, ...] = (_gradient, _blobs)
PATTERNS: tuple[Pattern, ...] = (_gradient, _blobs, _stripes, _checks)
