"""Images to record attention for, through a config's pipeline.

They are files, or the first ones of the config's validation set.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from ..errors import UserError, one_line
from ..files import files_in
from ..run_config import is_kind, walk_datasets
from ..training.data_checks import check_datasets
from ..validation import few


class Sample(NamedTuple):
    """One image.

    Args:
        name: Of its file.
        image: RGB as the model gets it before normalisation, shape (H, W, 3), uint8.
        data: What the pipeline made of it.
    """

    name: str
    image: np.ndarray
    data: dict[str, Any]


def file_samples(
    cfg: Config, paths: Sequence[str], problems: list[str] | None = None
) -> list[Sample]:
    """Image files, and those in folders, through the config's test pipeline.

    Steps of the pipeline that read annotations are left out.

    Args:
        cfg: The config.
        paths: Files and folders.
        problems: Takes a sentence about each file that is not an image; without it, the first ends
            with an error.

    Raises:
        UserError: A path without images, a file that is not an image, or none that is, or a config
            without a test pipeline.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    datasets = (dataset for _, dataset in walk_datasets(loader.get('dataset')))
    steps = next((part['pipeline'] for part in datasets if part.get('pipeline')), None)
    if steps is None:
        raise UserError(
            f'config {cfg.filename!r} has no test_dataloader with a pipeline, which images go '
            'through'
        )
    from mmcv.transforms import LoadAnnotations

    with _scope(cfg):
        pipeline = Compose(
            [step for step in steps if not is_kind(step, TRANSFORMS, LoadAnnotations)]
        )
        samples = []
        for i, path in enumerate(_expand(paths)):
            try:
                samples.append(_sample(path.name, _read(pipeline, path, i)))
            except UserError as error:
                if problems is None:
                    raise
                problems.append(str(error))
    if not samples:
        raise UserError(few(problems or ['no images']))
    return samples


def validation_samples(cfg: Config, number: int) -> list[Sample]:
    """The first images of the config's validation set.

    Args:
        cfg: The config.
        number: How many, at most.

    Raises:
        UserError: A config without one, or with paths that do not exist.
    """
    if not cfg.get('val_dataloader'):
        raise UserError(f'config {cfg.filename!r} has no val_dataloader; name image files instead')
    check_datasets(cfg, 'val')
    with _scope(cfg):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        return [
            _sample(_file_name(data), data)
            for data in (dataset[i] for i in range(min(number, len(dataset))))
        ]


def _scope(cfg: Config):
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine'))


def _expand(paths: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        files = files_in(path) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise UserError(
                f'no image in {str(path)!r}'
                if path.is_dir()
                else f'image {str(path)!r} does not exist'
            )
        found += files
    return found


def _read(pipeline: Compose, path: Path, index: int) -> dict[str, Any]:
    try:
        return pipeline(dict(img_path=str(path), img_id=index))
    except Exception as error:  # what a damaged file raises depends on the reader
        raise UserError(
            f'image {str(path)!r} does not pass the test pipeline: {one_line(error)}'
        ) from error


def _sample(name: str, data: dict[str, Any]) -> Sample:
    return Sample(
        name, np.ascontiguousarray(data['inputs'][:3].flip(0).permute(1, 2, 0).numpy()), data
    )


def _file_name(data: dict[str, Any]) -> str:
    return Path(data['data_samples'].metainfo.get('img_path', 'image')).name
