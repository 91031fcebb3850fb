"""mmengine's ways to name a checkpoint, read by our reader: files, URLs, model zoos, storage.

Importing this module registers them with mmengine's ``CheckpointLoader`` in place of mmengine's
own, which unpickle whatever torch lets them. So ``init_cfg=dict(type='Pretrained', ...)`` of a
stock module and ``load_from`` of a stock runner are as safe as ours. Names, caches and what is
returned are mmengine's. Objects other than tensors and plain data become stand-ins, or the file is
refused (:class:`~kw_mm.errors.CheckpointError`).
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.runner import checkpoint as mmengines
from mmengine.runner.checkpoint import CheckpointLoader

from ..errors import CheckpointError, one_line
from ..validation import closest
from .reading import read_file


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A file.

    Raises:
        FileNotFoundError: It does not exist.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    return read_file(filename, map_location)


def load_from_http(
    filename: str,
    map_location: Any = None,
    model_dir: str | None = None,
    progress: bool = os.isatty(0),
) -> Any:
    """A URL, downloaded once into torch's cache; the first process downloads, the others wait."""
    if get_rank() == 0:
        path = _downloaded(filename, model_dir, progress)
    barrier()
    if get_rank() > 0:
        path = _downloaded(filename, model_dir, progress)
    inner = _only_member(path)
    return read_file(io.BytesIO(inner) if inner else path, map_location, name=filename)


def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """``torchvision://NAME``, formerly ``modelzoo://NAME``."""
    url = _known(filename, mmengines.get_torchvision_models())
    return load_from_http(url, map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """``openmmlab://NAME`` or ``open-mmlab://NAME``: a URL, or a file in mmengine's folder."""
    name = filename.split('://', 1)[1]
    name = mmengines.get_deprecated_model_names().get(name, name)
    source = _known(f'openmmlab://{name}', mmengines.get_external_models())
    if source.startswith(('http://', 'https://')):
        return load_from_http(source, map_location)
    return load_from_local(os.path.join(mmengines._get_mmengine_home(), source), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """``mmcls://NAME``, of which mmengine takes the backbone."""
    url = _known(filename, mmengines.get_mmcls_models())
    return mmengines._process_mmcls_checkpoint(load_from_http(url, map_location))


def load_from_ceph(filename: str, map_location: Any = None, backend: str = 'petrel') -> Any:
    """``s3://...`` or ``petrel://...``, with or without a cluster's name in front."""
    storage = get_file_backend(filename, backend_args=dict(backend=backend))
    with io.BytesIO(storage.get(filename)) as file:
        return read_file(file, map_location, name=filename)


def load_from_pavi(filename: str, map_location: Any = None) -> Any:
    """``pavi://...``, which needs the package of that name."""
    from pavi import modelcloud

    model = modelcloud.get(filename.split('://', 1)[1])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, model.name)
        model.download(path)
        return read_file(path, map_location, name=filename)


def _known(filename: str, names: Mapping[str, str]) -> str:
    """What a name stands for.

    Raises:
        CheckpointError: There is no such name; it names those that are called alike.
    """
    scheme, name = filename.split('://', 1)
    if name in names:
        return names[name]
    close = closest(name, names) or list(names)[:3]
    raise CheckpointError(
        f'checkpoint {filename!r} does not exist: {scheme} has no {name!r}; it has for example '
        f'{", ".join(close)}'
    )


def _downloaded(url: str, folder: str | None, progress: bool) -> str:
    """Path in torch's cache of what is behind a URL, under the last part of its path.

    Raises:
        CheckpointError: It cannot be fetched; says where a file fetched otherwise belongs.
    """
    folder = folder or os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(urlparse(url).path))
    if os.path.exists(path):
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        print(f'Downloading: "{url}" to {path}')
        torch.hub.download_url_to_file(url, path, progress=progress)
    except (OSError, HTTPException) as error:  # also all that urllib has
        raise CheckpointError(
            f'checkpoint {url!r} cannot be fetched ({one_line(error)[:200]}); without a network, '
            f'fetch it elsewhere and put it at {path!r}, or name another file'
        ) from error
    return path


def _only_member(path: str) -> bytes | None:
    """What is in an archive of one file, as model zoos packed checkpoints of torch before 1.6."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        return archive.read(members[0]) if len(members) == 1 else None


SCHEMES = {
    load_from_local: [''],
    load_from_http: ['http://', 'https://'],
    load_from_torchvision: ['torchvision://', 'modelzoo://'],
    load_from_openmmlab: ['openmmlab://', 'open-mmlab://'],
    load_from_mmcls: ['mmcls://'],
    load_from_ceph: [r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
    load_from_pavi: ['pavi://'],
}
for loader, prefixes in SCHEMES.items():
    CheckpointLoader.register_scheme(prefixes, loader, force=True)
