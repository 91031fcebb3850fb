"""A trained model with what it takes to predict on a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import BaseDataElement

from ..checkpoints.loading import load_weights
from ..errors import UserError
from ..models.building import build_model
from ..run_config import tested_dataset, type_name


class Predictor:
    """A model in evaluation mode with its test pipeline.

    Args:
        cfg: Config of the model.
        checkpoint: Any file that ``tools/test.py`` takes; one with a ``state_dict`` alone is
            enough.
        device: Where to run; by default a GPU if there is one.

    Attributes:
        classes (tuple): Names by label.
        palette: Colours by label as mmdet takes them, or None.

    Raises:
        UserError: The config's model or pipeline cannot be built, the checkpoint does not fit,
            there are not as many names as the model has classes, or there is no such device.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str | None = None) -> None:
        self.cfg = cfg
        self.scope = cfg.get('default_scope') or 'mmengine'
        self.device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        with DefaultScope.overwrite_default_scope(self.scope):
            self.model = build_model(cfg)
            self.pipeline = _pipeline(cfg)
            content = load_weights(self.model, checkpoint)
            self.classes, self.palette = _names(cfg, content)
        self._check_names()
        try:
            self.model = revert_sync_batchnorm(self.model).to(self.device).eval()
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f'device {self.device!r} cannot be used ({str(error).splitlines()[0]}); try cpu'
            ) from error

    @torch.no_grad()
    def __call__(self, image: np.ndarray, path: str = '') -> BaseDataElement:
        """Predict.

        Args:
            image: (H, W, 3) in BGR.
            path: Where it came from.

        Returns:
            The model's data sample, on the CPU, with ``pred_instances`` of a detector in pixels of
            the image, or ``pred_score`` (C, ) of a classifier.
        """
        shape = image.shape[:2]
        data = self.pipeline(
            dict(img=image, img_path=path, img_id=0, img_shape=shape, ori_shape=shape)
        )
        with DefaultScope.overwrite_default_scope(self.scope):
            return self.model.test_step(pseudo_collate([data]))[0].cpu()

    def _check_names(self) -> None:
        heads = [
            getattr(getattr(self.model, 'roi_head', self.model), name, None)
            for name in ('bbox_head', 'head')
        ]
        number = next(
            (head.num_classes for head in heads if hasattr(head, 'num_classes')), len(self.classes)
        )
        if number != len(self.classes):
            raise UserError(
                f'the model has {number} classes, but {len(self.classes)} names are known for them; give '
                'test_dataloader.dataset.metainfo=dict(classes=(...)) in the config, one name per class'
            )


def _pipeline(cfg: Config) -> Compose:
    """The test pipeline from the loaded image on, without annotations."""
    steps = tested_dataset(cfg).get('pipeline') or []
    kept = [
        step
        for step in steps
        if not type_name(step).endswith(('LoadImageFromFile', 'LoadAnnotations'))
    ]
    if len(kept) == len(steps):
        raise UserError(
            f'config {cfg.filename!r} has no test_dataloader.dataset.pipeline with LoadImageFromFile in it'
        )
    return Compose(kept)


def _names(cfg: Config, content: Any) -> tuple[Sequence[str], Any]:
    """Class names and palette: the checkpoint's, else the config's, else those of its kind of dataset."""
    dataset = tested_dataset(cfg)
    with DATASETS.switch_scope_and_registry(None) as registry:  # of the default scope
        kind = registry.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    known = [_saved_names(content), dataset.get('metainfo') or {}, getattr(kind, 'METAINFO', {})]
    named = next((names for names in known if names.get('classes')), None)
    if named is None:
        raise UserError(
            f'no class names are in the checkpoint, in config {cfg.filename!r} or known of a {dataset.type}; '
            'give test_dataloader.dataset.metainfo=dict(classes=(...)) in the config'
        )
    palettes = (
        names.get('palette')
        for names in known
        if tuple(names.get('classes') or ()) == tuple(named['classes'])
    )
    return tuple(named['classes']), next((palette for palette in palettes if palette), None)


def _saved_names(content: Any) -> dict[str, Any]:
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    saved = meta.get('dataset_meta') or meta  # in meta itself: mmdet 2, CLASSES and PALETTE
    return {
        key.lower(): value for key, value in saved.items() if key.lower() in ('classes', 'palette')
    }
