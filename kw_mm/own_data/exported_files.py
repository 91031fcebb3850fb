"""The annotation files of an export, and which of them is for training, validation and testing.

Known by their places are the exports of Roboflow (``train/_annotations.coco.json`` beside the
images), CVAT, Datumaro and COCO (``annotations/instances_*.json``), Label Studio (``result.json``)
and FiftyOne (``labels.json``).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..validation import few

SPLIT_WORDS = dict(
    train=('train', 'training'), val=('val', 'valid', 'validation', 'dev'), test=('test', 'testing')
)
# in COCO's annotations/ beside the instances
OTHER_TASKS = ('person_keypoints', 'captions', 'panoptic', 'stuff', 'image_info', 'labels_')
ANNOTATIONS = 'annotations'  # the usual folder of annotation files
DEEPEST = 3  # folders below the one that was given
COCO_FIELDS = (b'"images"', b'"annotations"', b'"categories"')
END = 1 << 20  # bytes of a file's beginning and end that are looked at


def find_splits(arguments: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    """The annotation files of an export.

    Args:
        arguments: A folder, or annotation files, each of which can say what it is for:
            ``train=FILE``.

    Returns:
        tuple: The folder that everything is in, and {'train', 'val', 'test': annotation file}. A
        single file is 'train'.

    Raises:
        UserError: There is none, or it is not clear which file is for training.
    """
    root = Path(os.path.abspath(arguments[0]))
    if len(arguments) == 1 and root.is_dir():
        files = annotation_files(root)
        named = {}
        if not files:
            raise UserError(
                f'{str(root)!r} must have an annotation file in COCO format, got none in it or '
                f'{DEEPEST} folders below; export the data set as COCO, or name its annotation file'
            )
    else:
        named, files = _named(arguments)
        root = Path(os.path.commonpath([path.parent for path in [*named.values(), *files]]))
        root = root.parent if root.name == ANNOTATIONS else root  # with the images beside it
    splits = {**named, **_by_name(root, files, set(named))}
    if 'train' not in splits:
        raise UserError(
            f'one annotation file must be for training, got {few(sorted(map(str, files)), 5)}; say '
            'what each is for: new-config train=FILE val=FILE'
        )
    return root, {split: splits[split] for split in SPLIT_WORDS if split in splits}


def annotation_files(folder: Path) -> list[Path]:
    """Annotation files in COCO format in a folder and a few levels below it, by name."""
    depth = len(folder.parts)
    found = [
        path
        for path in sorted(folder.rglob('*.json'))
        if len(path.parts) - depth <= DEEPEST and path.is_file() and _looks_like_coco(path)
    ]
    of_instances = [path for path in found if not path.name.startswith(OTHER_TASKS)]
    return of_instances or found


def split_of(path: str) -> str | None:
    """'train', 'val' or 'test' by the last word of a path that says so.

    Example:
        >>> split_of('valid/_annotations.coco.json')
        'val'
    """
    for word in reversed(re.split(r'[^a-z]+', path.lower())):
        for split, words in SPLIT_WORDS.items():
            if word in words:
                return split
    return None


def _looks_like_coco(path: Path) -> bool:
    """Whether both ends of a file show two of COCO's fields; a long list may hide the third."""
    with open(path, 'rb') as file:
        ends = file.read(END)
        file.seek(max(0, path.stat().st_size - END))
        ends += file.read()
    return sum(field in ends for field in COCO_FIELDS) >= 2


def _named(arguments: Sequence[str]) -> tuple[dict[str, Path], list[Path]]:
    """Files given as ``train=FILE``, and the others."""
    named: dict[str, Path] = {}
    others = []
    for argument in arguments:
        split, mark, file = argument.partition('=')
        if not mark or Path(argument).exists():
            others.append(Path(os.path.abspath(argument)))
        elif split not in SPLIT_WORDS or split in named:
            raise UserError(
                f'{argument!r} must be one of train=FILE, val=FILE and test=FILE, each at most once'
            )
        else:
            named[split] = Path(os.path.abspath(file))
    for path in [*named.values(), *others]:
        if not path.is_file():
            what = 'a folder beside other arguments' if path.is_dir() else 'none'
            raise UserError(
                f'{str(path)!r} must be an annotation file, got {what}; name one folder, or '
                'annotation files'
            )
    return named, others


def _by_name(root: Path, files: Sequence[Path], taken: set[str]) -> dict[str, Path]:
    """The splits of files that do not say what they are for."""
    if len(files) == 1 and not taken:
        return {'train': files[0]}
    splits: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        split = split_of(name)
        if split is None:
            raise UserError(
                f'annotation file {name!r} must say in its path whether it is for training '
                '(train), validation (val, valid) or testing (test); say it in the command: '
                f'train={name} val=...'
            )
        if split in splits or split in taken:
            other = splits[split].relative_to(root).as_posix() if split in splits else 'another'
            raise UserError(
                f'two annotation files must not both be for {split}, got {other!r} and {name!r}; '
                f'name the files: new-config train=FILE val=FILE'
            )
        splits[split] = path
    return splits
