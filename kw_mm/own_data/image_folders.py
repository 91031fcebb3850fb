"""Finding the images of an annotation file, wherever an export has put them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..validation import few
from .exported_files import split_of

Rename = Callable[[str], str]
TRIED = 50  # images for which a folder is tried out
USUAL_FOLDERS = ('images', 'data', 'imgs', 'JPEGImages', 'train2017', 'val2017', 'test2017')


class Images(NamedTuple):
    """Where the images of an annotation file are.

    Args:
        folder: The folder that their names are relative to.
        rename: What makes such names of those in the file.
        renamed: How the names differ from the file's, in words; empty if they do not.
        missing: Names of images that are not there.
    """

    folder: Path
    rename: Rename
    renamed: str
    missing: list[str]


def with_slashes(name: str) -> str:
    """A file name as this system writes it."""
    return name.replace('\\', '/')


def base_name(name: str) -> str:
    """A file name without folders: ``'?d=a\\\\b.png'``, ``'a/b.png'`` -> ``'b.png'``."""
    return with_slashes(name).rpartition('/')[2]


RENAMES: tuple[tuple[Rename, str], ...] = (
    (str, ''),
    (with_slashes, 'with slashes instead of backslashes'),
    (base_name, 'without the folders in which the labelling tool had kept them'),
)


def find_images(content: dict[str, Any], annotations: Path, root: Path, split: str) -> Images:
    """Find the folder of an annotation file's images.

    Args:
        content: What the file holds.
        annotations: The file.
        root: The folder of the whole data set.
        split: What the file is for, which may be the name of a folder.

    Raises:
        UserError: There is no folder with any of them.
    """
    names = [image['file_name'] for image in content['images']]
    some = names[:: max(1, len(names) // TRIED)]
    best = (0, root, RENAMES[0])
    for rename, words in RENAMES:
        if rename is base_name and len(set(map(base_name, names))) < len(set(names)):
            continue  # two images of one name in different folders
        for folder in _candidates(annotations, root, split):
            found = sum((folder / rename(name)).is_file() for name in some)
            if found > best[0]:
                best = (found, folder, (rename, words))
        if best[0] == len(some):
            break
    found, folder, (rename, words) = best
    if not found:
        raise UserError(
            f'the images of {str(annotations)!r} ({few(some)}) must be in its folder, in '
            f'{str(root)!r} or in one below, got none of {len(some)}; export the data set with its '
            'images, or copy them to images/'
        )
    missing = [name for name in names if not (folder / rename(name)).is_file()]
    return Images(folder, rename, words, missing)


def relative(path: Path, root: Path) -> str:
    """A path as a config writes it: relative to the data's folder where it is below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _candidates(annotations: Path, root: Path, split: str) -> list[Path]:
    """Folders that may have the images, the likeliest first.

    Images of several splits can have the same names: a folder that is called like the split comes
    before all others, one that is called like another split after them.
    """
    near = [annotations.parent, annotations.parent.parent, root]
    folders = [folder for folder in near if folder.is_relative_to(root)] + sorted(_folders(root))
    places = (place for one in folders for place in (one, *map(one.joinpath, USUAL_FOLDERS)))
    found = [place for place in dict.fromkeys(places) if place.is_dir()]

    def rank(place: Path) -> int:
        named = split_of(place.relative_to(root).as_posix())
        return (split, None).index(named) if named in (split, None) else 2

    return sorted(found, key=rank)


def _folders(root: Path) -> Iterator[Path]:
    """Folders one and two levels below."""
    for entry in os.scandir(root):
        if entry.is_dir():
            yield Path(entry.path)
            yield from (Path(inner.path) for inner in os.scandir(entry.path) if inner.is_dir())
