"""The published weights: what there is, and ``kw://NAME``, which fetches and verifies them.

The cache holds the authors' files as they are; a model adapts them when it loads them. They live on
the authors' Google Drive; ``gdown`` (optional) downloads from there. Where it cannot, the error
says what to download by hand and where to put it. ``KW_MM_MIRROR`` names another server, as a URL
with ``{id}`` or ``{name}``.
"""

import csv
import hashlib
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader

from ..errors import CheckpointError
from ..files import atomic_write, write_text
from ..validation import closest
from .reading import read_checkpoint
from .state_dicts import unwrap

try:
    import fcntl
except ImportError:  # Windows: no lock between processes
    fcntl = None

SCHEME = 'kw://'
TABLE = Path(__file__).with_name('published_models.csv')
RECORD = '.sha256'  # a file's hash stands beside it, as sha256sum writes and checks it


@dataclass(frozen=True)
class PublishedModel:
    """A published checkpoint.

    Args:
        name: What ``kw://`` calls it.
        parameters: In millions, as reported; None for detectors.
        scores: (top-1, top-5) on ImageNet, or (box AP, mask AP) on MS-COCO, as reported by the
            authors.
        google_drive_id: Where it is.
        sha256: Of the file, in hexadecimal; empty where nobody has seen it yet.
    """

    name: str
    parameters: float | None
    scores: tuple[float, float]
    google_drive_id: str
    sha256: str = ''

    @property
    def link(self) -> str:
        """Page to download it from by hand."""
        return f'https://drive.google.com/file/d/{self.google_drive_id}/view'


@cache
def published_models() -> dict[str, PublishedModel]:
    """All published models by name."""
    with open(TABLE, newline='') as file:
        rows = list(csv.DictReader(file))
    return {
        row['name']: PublishedModel(
            row['name'],
            float(row['parameters_in_millions']) if row['parameters_in_millions'] else None,
            (float(row['top1_or_box_ap']), float(row['top5_or_mask_ap'])),
            row['google_drive_id'],
            row['sha256'],
        )
        for row in rows
    }


def cache_folder() -> Path:
    """``$KW_MM_CACHE/weights``, by default ``~/.cache/kw_mm/weights``."""
    default = os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'kw_mm'
    )
    return Path(os.environ.get('KW_MM_CACHE') or default) / 'weights'


def find(name: str) -> PublishedModel:
    """A published model by name.

    Raises:
        CheckpointError: No such model.
    """
    models = published_models()
    if name not in models:
        close = closest(name, models, cutoff=0.3) or list(models)[:4]
        raise CheckpointError(
            f'{SCHEME}{name} is not a published model; there are for example {", ".join(close)}'
        )
    return models[name]


def cached_file(model: PublishedModel) -> Path:
    """Where the authors' file lies, or is to be put by hand.

    It is not in the cache's main folder: earlier versions kept converted files there.
    """
    return cache_folder() / 'downloads' / f'{model.name}.pth'


def fetch(name: str) -> Path:
    """Path of a published model's file, downloaded if need be, with the hash that is known of it.

    The hash is the table's. Where that has none, it is the one found when the file was first used,
    which is kept beside the file.

    Raises:
        CheckpointError: It could be neither found nor downloaded, or is another file than before;
            the message says what to do by hand.
    """
    model = find(name)
    path = cached_file(model)
    if not path.is_file() or not _known_hash(model):
        with _only_one_process(path):
            if not path.is_file():
                _download(model, path)
            if not _known_hash(model):
                _check_readable(model, path)
                write_text(_record_of(model), f'{_hash_of(path)}  {path.name}\n')
    _check_hash(model, path, f'{path} has changed', 'Remove it and try again, to download it anew')
    return path


def _download(model: PublishedModel, path: Path) -> None:
    print_log(f'{SCHEME}{model.name}: downloading {model.link}', logger='current')
    with (
        tempfile.TemporaryDirectory(prefix=f'.{model.name}-', dir=path.parent) as folder,
        atomic_write(path) as draft,
    ):
        source = Path(folder) / 'download.pth'
        _transfer(model, source)
        _check_readable(model, source)
        if _known_hash(model):
            _check_hash(model, source, 'another file was downloaded than before', _advice(model))
        os.replace(source, draft)  # atomic_write flushes it and gives it its name


def _transfer(model: PublishedModel, target: Path) -> None:
    mirror = os.environ.get('KW_MM_MIRROR')
    try:
        if mirror:
            url = mirror.format(id=model.google_drive_id, name=model.name)
            with urllib.request.urlopen(url, timeout=60) as answer, open(target, 'wb') as file:
                shutil.copyfileobj(answer, file)
        else:
            import gdown

            gdown.download(id=model.google_drive_id, output=str(target), quiet=False)
        size = target.stat().st_size
    except ImportError:
        raise CheckpointError(
            f'{SCHEME}{model.name} is not in the cache, and gdown is not installed to download it '
            f'(pip install gdown). {_advice(model)}'
        ) from None
    except Exception as error:  # gdown raises many kinds, none of them documented
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f'{SCHEME}{model.name} could not be downloaded ({reason[:200]}). {_advice(model)}'
        ) from error
    with open(target, 'rb') as file:
        if size < 1000 or file.read(256).lstrip().lower().startswith((b'<!doctype', b'<html')):
            raise CheckpointError(
                f'{SCHEME}{model.name}: the server sent a web page instead of the file, as Google '
                f'Drive does when too many have downloaded it. {_advice(model)}'
            )


def _check_readable(model: PublishedModel, path: Path) -> None:
    try:
        unwrap(read_checkpoint(str(path)))
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f'{SCHEME}{model.name}: {error}. {_advice(model)}') from error


def _advice(model: PublishedModel) -> str:
    return f'Download {model.link} in a browser and save it as {cached_file(model)}'


def _record_of(model: PublishedModel) -> Path:
    path = cached_file(model)
    return path.with_name(path.name + RECORD)


def _known_hash(model: PublishedModel) -> str:
    """The table's hash, or the one that was found first; empty if there is neither."""
    record = _record_of(model)
    if model.sha256 or not record.is_file():
        return model.sha256
    return next(iter(record.read_text().split()), '')


def _check_hash(model: PublishedModel, path: Path, problem: str, remedy: str) -> None:
    known, found = _known_hash(model), _hash_of(path)
    if found == known:
        return
    record = _record_of(model)
    source = TABLE.name if model.sha256 else record
    trust = '' if model.sha256 else f'; if you trust the file that is there now, remove {record}'
    raise CheckpointError(
        f'{SCHEME}{model.name}: {problem}: its sha256 must be {known} (from {source}), '
        f'got {found}. {remedy}{trust}'
    )


def _hash_of(path: Path) -> str:
    state = path.stat()
    return _sha256(str(path), state.st_size, state.st_mtime_ns)


@cache
def _sha256(path: str, size: int, modified: int) -> str:
    """A file's hash, computed once in a process while the file's size and time stay the same."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _only_one_process(target: Path) -> Iterator[None]:
    """Several ranks ask at once: one works, the others wait and find the result."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = open(target.with_name(f'.{target.name}.lock'), 'w')
    except OSError as error:
        raise CheckpointError(
            f'cannot write to the cache folder {target.parent} ({error.strerror}); '
            'set KW_MM_CACHE to one that you can write to'
        ) from error
    with lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@CheckpointLoader.register_scheme(prefixes=SCHEME, force=True)
def load_from_kw(filename: str, map_location: Any = None) -> Any:
    """mmengine's entry point for ``kw://NAME``."""
    return read_checkpoint(str(fetch(filename[len(SCHEME) :])), map_location or 'cpu')
