"""What to predict on: pictures and videos among files and folders."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import UserError
from ..files import IMAGE_ENDINGS, files_in

GREY = ('.pgm',)  # formats without colour
USUAL_RATE = 25.0  # frames per second, of a video that does not say
VIDEO_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')


class Inputs(NamedTuple):
    """Files to predict on.

    Args:
        images: Paths of pictures.
        videos: Paths of videos.
    """

    images: list[Path]
    videos: list[Path]


def find_inputs(paths: Sequence[str]) -> Inputs:
    """Sort paths into pictures and videos; of a folder, what lies directly in it, by name.

    Raises:
        UserError: A path that does not exist, a file that is neither, or a folder without either.
    """
    inputs = Inputs([], [])
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(
                f'{str(path)!r} does not exist; name a picture, a video or a folder of them'
            )
        files = files_in(path, IMAGE_ENDINGS + VIDEO_ENDINGS) if path.is_dir() else [path]
        found = [
            (kind, file)
            for file in files
            for kind, endings in zip(inputs, (IMAGE_ENDINGS, VIDEO_ENDINGS))
            if file.suffix.lower() in endings
        ]
        if not found:
            what = 'holds neither pictures nor videos'
            if not path.is_dir():
                what = 'is neither a picture nor a video'
            endings = ', '.join(IMAGE_ENDINGS[:3] + VIDEO_ENDINGS[:2])
            raise UserError(f'{str(path)!r} {what}; they are known by endings like {endings}')
        for kind, file in found:
            kind.append(file)
    return inputs


def output_names(files: Sequence[Path], ending: str | None = None) -> dict[Path, str]:
    """A name for what is drawn from each file: its own, no name twice.

    Files of one name get the names of their folders in front, and keep their own ending where
    another one is given.

    Args:
        files: Pictures or videos.
        ending: Of what is drawn, e.g. '.mp4'; by default each file's own, or .png where that
            format does not take a drawn picture.
    """
    names = {file: _drawn_name(file, ending) for file in files}
    counts = Counter(names.values())
    for file, name in names.items():
        if counts[name] > 1:
            kept = name if name == file.name else file.name + Path(name).suffix
            names[file] = '_'.join([*file.resolve().parts[1:-1], kept])
    return _numbered(names)


def _drawn_name(file: Path, ending: str | None) -> str:
    if ending is not None:
        return file.stem + ending
    takes_colour = file.suffix.lower() not in GREY and cv2.haveImageWriter('x' + file.suffix)
    return file.name if takes_colour else f'{file.name}.png'


def _numbered(names: dict[Path, str]) -> dict[Path, str]:
    """The same, with a number in names that are there twice all the same."""
    taken: set[str] = set()
    used = dict.fromkeys(names.values(), 1)
    for file, name in names.items():
        unique = name
        while unique in taken:
            used[name] += 1
            unique = f'{Path(name).stem}_{used[name]}{Path(name).suffix}'
        taken.add(unique)
        names[file] = unique
    return names


def image_ids(files: Sequence[Path | None]) -> list[int]:
    """COCO calls its pictures after their ids; others are numbered from 1."""
    numbers = [int(file.stem) if file and file.stem.isdecimal() else None for file in files]
    if None in numbers or len(set(numbers)) < len(files):
        return list(range(1, len(files) + 1))
    return numbers


def read_video(path: Path) -> tuple[float, Iterator[np.ndarray]]:
    """Open a video.

    Args:
        path: The file.

    Returns:
        tuple: Frames per second (25 where the file does not say) and its frames, (H, W, 3) in BGR.

    Raises:
        UserError: The file is damaged or not a video.
    """
    video = cv2.VideoCapture(os.fspath(path))
    read, first = video.read()
    if not read:
        raise UserError(
            f'video {str(path)!r} cannot be read; it is damaged, or its codec is unknown to OpenCV'
        )
    rate = video.get(cv2.CAP_PROP_FPS)
    is_known = math.isfinite(rate) and rate > 0
    return rate if is_known else USUAL_RATE, _frames(video, first)


def _frames(video: cv2.VideoCapture, frame: np.ndarray) -> Iterator[np.ndarray]:
    read = True
    while read:
        yield frame
        read, frame = video.read()
    video.release()
