"""The published weights: what there is, and ``kw://NAME``, which fetches, converts and caches them.

They live on the authors' Google Drive; ``gdown`` (optional) downloads from there. Where it cannot,
the error says what to download by hand and where to put it. ``KW_MM_MIRROR`` names another server,
as a URL with ``{id}`` or ``{name}``.
"""

import csv
import difflib
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

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader

from ..errors import CheckpointError
from .convert import convert
from .reading import read_checkpoint

try:
    import fcntl
except ImportError:  # Windows: no lock between processes
    fcntl = None

SCHEME = 'kw://'
TABLE = Path(__file__).with_name('published_models.csv')


@dataclass(frozen=True)
class PublishedModel:
    """A published checkpoint.

    Args:
        name: What ``kw://`` calls it.
        parameters: In millions, as reported; None for detectors.
        scores: (top-1, top-5) on ImageNet, or (box AP, mask AP) on MS-COCO, as reported by the
            authors.
        google_drive_id: Where it is.
    """

    name: str
    parameters: float
    scores: tuple
    google_drive_id: str

    @property
    def link(self) -> str:
        """Page to download it from by hand."""
        return f'https://drive.google.com/file/d/{self.google_drive_id}/view'

    @property
    def dynamic(self) -> bool:
        """Whether it has kernel warehouses or ODConv."""
        return '-kw' in self.name or '-odconv' in self.name


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
        close = difflib.get_close_matches(name, models, n=3, cutoff=0.3) or list(models)[:4]
        raise CheckpointError(
            f'{SCHEME}{name} is not a published model; there are for example {", ".join(close)}'
        )
    return models[name]


def fetch(name: str) -> Path:
    """Path of a published model in our layout (or mmpretrain's names, if static), downloaded and converted if need be.

    Raises:
        CheckpointError: It could be neither found nor downloaded; the message says what to do by
            hand.
    """
    model = find(name)
    target = cache_folder() / f'{name}.pth'
    if not target.is_file():
        with _only_one_process(target):
            if not target.is_file():
                _make(model, target)
    return target


def by_hand(model: PublishedModel) -> Path:
    """Where a file that the user downloaded is looked for."""
    return cache_folder() / 'downloads' / f'{model.name}.pth'


def _make(model: PublishedModel, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f'.{model.name}-', dir=target.parent) as folder:
        source = by_hand(model)
        if not source.is_file():
            source = Path(folder) / 'download.pth'
            print_log(f'{SCHEME}{model.name}: downloading {model.link}', logger='current')
            _download(model, source)
        try:
            converted = convert(
                read_checkpoint(str(source)), 'kw_mm' if model.dynamic else 'static'
            )
        except CheckpointError as error:
            raise CheckpointError(f'{SCHEME}{model.name}: {error}. {_advice(model)}') from error
        draft = Path(folder) / 'converted.pth'
        torch.save(converted, draft)
        read_checkpoint(str(draft))
        os.replace(draft, target)


def _download(model: PublishedModel, target: Path) -> None:
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
                f'{SCHEME}{model.name}: the server sent a web page instead of the file, as Google Drive '
                f'does when too many have downloaded it. {_advice(model)}'
            )


def _advice(model: PublishedModel) -> str:
    return f'Download {model.link} in a browser and save it as {by_hand(model)}'


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


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_published(filename: str, map_location: Any = None) -> dict:
    """mmengine's entry point for ``kw://NAME``."""
    return read_checkpoint(str(fetch(filename[len(SCHEME) :])), map_location or 'cpu')
