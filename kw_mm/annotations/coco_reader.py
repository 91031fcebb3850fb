"""Reading COCO annotation files for mmdet's datasets: checked, counted, in the classes' order."""

import gc
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from ..errors import AnnotationError
from ..validation import few
from .counting import Account, count


class AnnotationReader:
    """Stands for the class ``COCOAPI`` of one dataset: called with a path, it reads the file.

    Labels then follow the order of the dataset's classes. mmdet's would follow the file's, which
    may be another one in each split.

    Args:
        name: The file as the user calls it, for errors.
        classes: Names of the dataset's classes, in the order of labels.
        masks: Whether annotations need a segmentation.
        evaluated: Whether it is evaluated on.
        min_size: Least width and height of images that are trained on.

    Attributes:
        account (Account, optional): Of the file, once it was read.
        categories (list): Names of the file's categories, once it was read.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        *,
        masks: bool = False,
        evaluated: bool = False,
        min_size: float = 0,
    ) -> None:
        self.name, self.classes = name, classes
        self.options = dict(masks=masks, evaluated=evaluated, min_size=min_size)
        self.account: Account | None = None
        self.categories: list[str] = []

    def __call__(self, path: str) -> COCO:
        """Read the file.

        Args:
            path: Where it is on the local disk.

        Raises:
            AnnotationError: It is not JSON, or has a value that cannot be read as what it is.
        """
        with _nothing_collected():
            content = read(path, self.name)
            self.account = count(content, self.name, self.classes, **self.options)
            self.categories = [category['name'] for category in content['categories']]
            order_categories(content['categories'], self.classes, self.name)
            return indexed(content)


def read(path: str, name: str) -> Any:
    """What an annotation file holds.

    Raises:
        AnnotationError: It is not JSON.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            return json.load(file)
    except ValueError as error:
        raise AnnotationError(f'annotation file {name!r} is not JSON: {error}') from error


def indexed(content: dict[str, Any]) -> COCO:
    """mmdet's index of an annotation file's content."""
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def order_categories(categories: list[dict[str, Any]], classes: Sequence[str], name: str) -> None:
    """Sort categories, in place, into the order of the classes, others last; say so if it differs.

    Args:
        categories: Of an annotation file.
        classes: Their names in the order of labels.
        name: The file's name.
    """
    place = {name: number for number, name in enumerate(classes)}
    found = [category['name'] for category in categories if category['name'] in place]
    if found != sorted(found, key=place.__getitem__):
        print_log(
            f'annotation file {name!r} lists its categories as {few(found, 5)}; the order of the '
            f'classes is {few(list(classes), 5)}: labels go by name, not by place',
            logger='current',
            level=logging.WARNING,
        )
        categories.sort(key=lambda category: place.get(category['name'], len(place)))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Pause Python's garbage collector.

    It would look again and again at the millions of lists that are being made, of which none is
    garbage: with COCO's training set, longer than checking them takes.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
