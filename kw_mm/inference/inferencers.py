"""mmdet's and mmpretrain's inferencers for kw_mm's configs and checkpoints.

What differs from the parents:

- A checkpoint may have any layout, is read without executing what is in it, and must cover the
  whole model. Its class names come first, then the config's, then those of the dataset's type.
- Images are read by the loader that the config names. Arrays are images (H, W, 3) in BGR, or as
  that loader returns them.
- OpenMMLab's default scope is theirs only while they work, so that a detector and a classifier
  can take turns. There is no progress bar, and the same picture is drawn the same each time.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmdet.apis import DetInferencer
from mmdet.datasets.transforms import LoadImageFromNDArray
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmpretrain.apis import ImageClassificationInferencer
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from torch import nn

from ..building import build_model
from ..checkpoints.loading import load_weights
from ..errors import ImageError, UserError, one_line
from ..pictures import as_rgb
from ..run_config import is_kind, load_config, tested_dataset
from .class_names import check_number_of_classes, dataset_meta


class ConfiguredInferencer:
    """What the two inferencers share: model, class names and test pipeline of a config.

    Attributes:
        cfg (Config): The config.
        scope (str): OpenMMLab's default scope in it.
        model (BaseModel): In evaluation mode.
    """

    cfg: Config
    scope: str
    model: BaseModel

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label."""
        return self.model.dataset_meta['classes']

    def read_image(self, path: str) -> np.ndarray:
        """Read an image as the config's loader does.

        Args:
            path: A file, or a URL that mmengine can read.

        Returns:
            np.ndarray: (H, W, 3) in BGR, or what ``color_type`` and the decoder make of it.

        Raises:
            ImageError: It is missing, damaged or not an image.
        """
        try:
            loaded = self.loader(dict(img_path=path))
        except Exception as error:  # OpenCV, Pillow and file backends each have their own
            if isinstance(error, ImageError) and error.__cause__ is None:
                raise
            reason = one_line(error.__cause__ or error)[:200]
            raise ImageError(f'image {path!r} cannot be read ({reason})') from error
        if loaded is None:  # by a loader that leaves out what it cannot read
            raise ImageError(f'image {path!r} cannot be read')
        return loaded['img']

    def prepare(self, images: Sequence[str | np.ndarray]) -> Any:
        """A batch as ``forward`` takes it, of images or their paths."""
        with self._in_scope():
            return self.collate_fn([self.pipeline(image) for image in images])

    def draw(self, image: np.ndarray, sample: Any) -> np.ndarray:
        """An image with a prediction drawn into it, all of it.

        Args:
            image: As loaded, of any depth.
            sample: As the inferencer returns it with ``return_datasamples=True``.

        Returns:
            np.ndarray: (H, W, 3) in BGR, uint8.
        """
        raise NotImplementedError

    def visualize(self, inputs: Sequence[str | np.ndarray], *args, **kwargs) -> Any:
        """Draw predictions, arguments as in the parent: images as loaded, of any depth."""
        images = [image if isinstance(image, str) else as_rgb(image) for image in inputs]
        with _repeatable_drawing():
            return super().visualize(images, *args, **kwargs)

    def _take_config(self, config: Config | str) -> None:
        self.cfg = load_config(config) if isinstance(config, str) else config
        self.scope = _scope(self.cfg)

    def _in_scope(self) -> AbstractContextManager:
        return DefaultScope.overwrite_default_scope(self.scope)

    def _load_model(self, weights: str | None, device: str) -> BaseModel:
        model = build_model(self.cfg)
        checkpoint = _begin(model, self.cfg) if weights is None else load_weights(model, weights)
        meta = dataset_meta(self.cfg, checkpoint, self.scope)
        check_number_of_classes(model, meta['classes'])
        try:
            model = revert_sync_batchnorm(model).to(device).eval()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'device {device!r} cannot be used ({reason}); try cpu') from error
        model.cfg, model.dataset_meta = self.cfg, meta
        return model

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The test pipeline without annotations, of a path, an array or a dict with either."""
        steps = tested_dataset(cfg).get('pipeline') or []
        loaders = [step for step in steps if self._loads_file(step)]
        if not loaders:
            raise UserError(
                f'config {cfg.filename!r} has no test_dataloader.dataset.pipeline with '
                'LoadImageFromFile in it'
            )
        self.loader = TRANSFORMS.build(loaders[0])
        others = (
            step
            for step in steps
            if step not in loaders and not is_kind(step, TRANSFORMS, LoadAnnotations, self.scope)
        )
        return Compose([self._load_image, *others])

    def _loads_file(self, step: dict[str, Any]) -> bool:
        """mmdet's transform for arrays is a kind of it, too."""
        file, array = (
            is_kind(step, TRANSFORMS, kind, self.scope)
            for kind in (LoadImageFromFile, LoadImageFromNDArray)
        )
        return file and not array

    def _load_image(self, given: str | np.ndarray | dict[str, Any]) -> dict[str, Any]:
        if not isinstance(given, dict):
            given = {'img_path' if isinstance(given, str) else 'img': given}
        image = given['img'] if 'img' in given else self.read_image(given['img_path'])
        if image.ndim == 3 and image.shape[2] == 3 and self._is_grey():  # a frame of a video
            image = mmcv.bgr2gray(image)
        if getattr(self.loader, 'to_float32', False):
            image = image.astype(np.float32)
        return {**given, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}

    def _is_grey(self) -> bool:
        return getattr(self.loader, 'color_type', 'color').startswith('grayscale')


class KWDetInferencer(ConfiguredInferencer, DetInferencer):
    """mmdet's ``DetInferencer`` for any checkpoint that fits the config.

    Args:
        model: A config, its file, or the name of one that comes with kw_mm.
        weights: Checkpoint file of any layout, also one with only a ``state_dict``. None for what
            the config's training begins with, which the log says.
        device: Where to run; by default a GPU if there is one.
        palette: Name of one of mmdet's palettes, for drawing; 'none' takes the one that belongs
            to the class names.
        show_progress: Whether to show a progress bar.

    Raises:
        UserError: The config's model cannot be built, its test pipeline loads no image, the
            checkpoint does not fit, there are not as many names as the model has classes, or
            there is no such device.

    Example:
        >>> from kw_mm.inference import KWDetInferencer
        >>> infer = KWDetInferencer('mask_rcnn_kw_r50_1x_coco', 'epoch_12.pth')
        >>> infer('street.jpg', out_dir='predictions')['predictions'][0]['scores']
    """

    def __init__(
        self,
        model: Config | str,
        weights: str | None,
        device: str | None = None,
        palette: str = 'none',
        show_progress: bool = False,
    ) -> None:
        self._take_config(model)
        with self._in_scope():
            super().__init__(
                self.cfg, weights, device or _device(), self.scope, palette, show_progress
            )

    def __call__(self, inputs: Any, *args, **kwargs) -> dict[str, Any]:
        """Predict. Arguments and result are those of mmdet."""
        with self._in_scope():
            return super().__call__(inputs, *args, **kwargs)

    def draw(self, image: np.ndarray, sample: DetDataSample) -> np.ndarray:
        """Boxes, masks, names and scores. Arguments as in the parent."""
        (drawn,) = self.visualize([image], [sample], return_vis=True, pred_score_thr=-1)
        return np.ascontiguousarray(drawn[..., ::-1])

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> BaseModel:
        model = self._load_model(weights, device)
        if self.palette != 'none':
            model.dataset_meta['palette'] = self.palette
        return model

    def _init_collate(self, cfg: Config) -> Callable:
        """mmdet's models take lists. The parent's logs that mmdet has no registry of functions."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> DetLocalVisualizer:
        """Not the config's, which is a global and hands each picture to its logging backends."""
        visualizer = DetLocalVisualizer(name='kw_mm predictions', alpha=0.5)
        visualizer.dataset_meta = self.model.dataset_meta
        return visualizer


class KWClassificationInferencer(ConfiguredInferencer, ImageClassificationInferencer):
    """mmpretrain's ``ImageClassificationInferencer`` for any checkpoint that fits the config.

    Args:
        model: A config, its file, or the name of one that comes with kw_mm.
        weights, device: As in :class:`KWDetInferencer`.

    Raises:
        UserError: As for :class:`KWDetInferencer`.

    Example:
        >>> from kw_mm.inference import KWClassificationInferencer
        >>> infer = KWClassificationInferencer('imagenet/kw_r50_300e_in1k', 'epoch_300.pth')
        >>> infer('cat.jpg')[0]['pred_class']
    """

    collate_fn = staticmethod(default_collate)

    def __init__(self, model: Config | str, weights: str | None, device: str | None = None) -> None:
        self._take_config(model)
        with self._in_scope():
            network = self._load_model(weights, device or _device())
            network._config = self.cfg  # where the parent looks for it
            super().__init__(network, classes=network.dataset_meta['classes'])

    def __call__(
        self, inputs: Any, return_datasamples: bool = False, batch_size: int = 1, **kwargs
    ) -> list:
        """Predict. As in mmpretrain, without its progress bar, which only a global turns off."""
        before, during, drawing, after = self._dispatch_kwargs(**kwargs)
        inputs = self._inputs_to_list(inputs)
        with self._in_scope():
            batches = self.preprocess(inputs, batch_size, **before)
            samples = [sample for batch in batches for sample in self.forward(batch, **during)]
            drawn = self.visualize(inputs, samples, **drawing)
        return self.postprocess(samples, drawn, return_datasamples, **after)

    def preprocess(self, inputs: Iterable[str | np.ndarray], batch_size: int = 1) -> Iterator[dict]:
        """Batches for the model; the parent's would read images in its own way."""
        yield from map(
            self.collate_fn, self._get_chunk_data(map(self.pipeline, inputs), batch_size)
        )

    def draw(self, image: np.ndarray, sample: DataSample) -> np.ndarray:
        """The most likely class's number, score and name. Arguments as in the parent."""
        visualizer = UniversalVisualizer(name='kw_mm predictions')
        drawn = visualizer.visualize_cls(as_rgb(image), sample, self.class_names, draw_gt=False)
        return np.ascontiguousarray(drawn[..., ::-1])


def load_inferencer(
    config: Config | str, weights: str | None, device: str | None = None
) -> KWDetInferencer | KWClassificationInferencer:
    """The inferencer for a config's kind of model. Arguments as in :class:`KWDetInferencer`.

    Raises:
        UserError: As for :class:`KWDetInferencer`; also for a model of another kind.
    """
    cfg = load_config(config) if isinstance(config, str) else config
    return (KWDetInferencer if detects(cfg) else KWClassificationInferencer)(cfg, weights, device)


def detects(cfg: Config) -> bool:
    """Whether a config's model is a detector; otherwise it is a classifier.

    Raises:
        UserError: It is neither.
    """
    model, scope = cfg.get('model') or {}, _scope(cfg)
    if is_kind(model, MODELS, BaseDetector, scope):
        return True
    known = is_kind(model, MODELS, nn.Module, scope)  # others fail, with their name, when built
    if known and not is_kind(model, MODELS, BaseClassifier, scope):
        kind = model['type']
        raise UserError(
            f'the model must be a detector of mmdet or a classifier of mmpretrain, got '
            f'{getattr(kind, "__name__", kind)}; use the inferencer of the package that has it, '
            'such as MMSegInferencer of mmseg: kw_mm, imported, reads its checkpoints'
        )
    return False


def _begin(model: nn.Module, cfg: Config) -> dict[str, Any]:
    """Give a network the weights that training begins with, and say which these are."""
    with _less_logged():
        model.init_weights()
    files = ', '.join(dict.fromkeys(_pretrained(cfg.model)))
    others = f'weights are those of {files}, all others' if files else 'all weights'
    print_log(
        f'no checkpoint is given: {others} are random, and so is what the model finds until it is '
        'trained',
        logger='current',
    )
    return {}


@contextmanager
def _less_logged() -> Iterator[None]:
    """mmengine logs of every parameter how it begins."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _pretrained(part: Any) -> Iterator[str]:
    """The checkpoints that parts of a config begin with."""
    if isinstance(part, dict):
        if part.get('type') == 'Pretrained' and part.get('checkpoint'):
            yield str(part['checkpoint'])
        part = list(part.values())
    for one in part if isinstance(part, (list, tuple)) else ():
        yield from _pretrained(one)


def _scope(cfg: Config) -> str:
    return cfg.get('default_scope') or 'mmengine'


def _device() -> str:
    """Not mmengine's choice, which may be a device that mmcv has no operators for."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


@contextmanager
def _repeatable_drawing() -> Iterator[None]:
    """mmdet varies the colours of masks at random and warns of boxes that touch the border."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*out of bounds')
            yield
    finally:
        np.random.set_state(state)
