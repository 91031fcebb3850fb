"""Reading a run's images with care, whatever its config says."""

from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config

from .image_loading import KWLoadImageFromFile

PLAIN = (
    'LoadImageFromFile',
    'mmcv.LoadImageFromFile',
    'mmdet.LoadImageFromFile',
    'mmpretrain.LoadImageFromFile',
    LoadImageFromFile,
)
SPLITS = ('train', 'val', 'test')


def read_images_with_care(cfg: Config, skip_bad: bool = False) -> None:
    """Let the datasets of a config, in place, load images with :class:`KWLoadImageFromFile`.

    Args:
        cfg: The config.
        skip_bad: Whether training leaves out images that cannot be read.
    """
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            _replace(loader.get('dataset'), skip_bad and split == 'train')


def _replace(value: Any, skip_bad: bool) -> None:
    if isinstance(value, (list, tuple)):
        for entry in value:
            _replace(entry, skip_bad)
    elif isinstance(value, dict):
        if value.get('type') in PLAIN and 'file_client_args' not in value:
            value['type'] = KWLoadImageFromFile.__name__
        if value.get('type') == KWLoadImageFromFile.__name__ and skip_bad:
            value['ignore_empty'] = True
        for entry in value.values():
            _replace(entry, skip_bad)
