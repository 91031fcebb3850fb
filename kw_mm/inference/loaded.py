"""A model that is ready to be called with images: ``kw_mm.load``."""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample

from ..errors import UserError
from ..evaluation.coco_results import category_ids
from ..optimizing import optimize_for_inference
from ..run_config import coco_annotations, load_config
from ..validation import check_count
from .given_images import Given, given_images
from .image_results import Classification, Detections
from .inferencers import KWClassificationInferencer, KWDetInferencer, load_inferencer
from .inputs import image_ids
from .saved_config import config_in

CHECKPOINT_ENDINGS = ('.pth', '.pt', '.ckpt')
WARM_UPS = 2


class Timing(NamedTuple):
    """How long the network takes.

    Args:
        milliseconds: For one image, the median of the repetitions.
        fastest, slowest: Likewise, of all repetitions.
        repetitions: How many batches were timed.
        batch_size: Images in each.
        image_size: (height, width) of the images before the test pipeline.
        input_size: (height, width) that the network sees, padding included.
        device: Where it ran.
        threads: Of torch on the CPU.
    """

    milliseconds: float
    fastest: float
    slowest: float
    repetitions: int
    batch_size: int
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    device: str
    threads: int

    def __str__(self) -> str:
        (height, width), (rows, columns) = self.image_size, self.input_size
        return (
            f'{self.milliseconds:.1f} ms per image (median of {self.repetitions}, '
            f'{self.fastest:.1f} to {self.slowest:.1f}): batch {self.batch_size}, image {height} x '
            f'{width}, network input {rows} x {columns}, {self.device}, threads {self.threads}'
        )


class LoadedModel:
    """What detectors and classifiers that are ready to be called have in common.

    Args:
        infer: It has the config, the network and the test pipeline.

    Attributes:
        infer: As given; mmdet's or mmpretrain's inferencer, with their own options.
    """

    def __init__(self, infer: KWDetInferencer | KWClassificationInferencer) -> None:
        self.infer = infer

    @property
    def network(self) -> BaseModel:
        """The network, in evaluation mode."""
        return self.infer.model

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by label."""
        return self.infer.class_names

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def __call__(self, images: Any, **options: Any) -> list[Any]:
        """:meth:`predict`."""
        return self.predict(images, **options)

    def predict(self, images: Any, **options: Any) -> list[Any]:
        """Results of all images, in their order. Arguments as in :meth:`stream`."""
        return list(self.stream(images, **options))

    def stream(self, images: Any, **options: Any) -> Iterator[Any]:
        """Results one after another, for folders whose results would not fit into memory."""
        raise NotImplementedError

    def _samples(self, images: Sequence[Given], batch_size: int) -> Iterator[tuple[int, Any]]:
        """(place, prediction as its package has it) of each image."""
        check_count('batch_size', batch_size, 'try batch_size=1')
        self.network.eval()
        for first in range(0, len(images), batch_size):
            batch = [given.image for given in images[first : first + batch_size]]
            done = self.infer(batch, batch_size=len(batch), return_datasamples=True)
            samples = done['predictions'] if isinstance(done, dict) else done
            yield from enumerate(samples, first)

    def optimize_for_inference(self, **options: Any) -> 'LoadedModel':
        """Fold batch norms into convolutions, and more on request, in place.

        Args:
            **options: Of :func:`~kw_mm.inference.optimize_for_inference`: ``cells_dtype``,
                ``compile``, ``cuda_graph``, ``pairs``.

        Returns:
            LoadedModel: Itself.

        Raises:
            UserError: As that function does.
        """
        optimize_for_inference(self.network, **options)
        return self

    def benchmark(
        self,
        images: Any = None,
        *,
        batch_size: int = 1,
        size: tuple[int, int] = (480, 640),
        repetitions: int = 10,
    ) -> Timing:
        """Print, and return, how long the network takes for an image.

        Timed are normalising, the network and its postprocessing, of images that are in memory and
        have been through the test pipeline.

        Args:
            images: What to look at, as in :meth:`stream`; repeated to fill a batch. By default one
                image of noise.
            batch_size: Images in a batch.
            size: (height, width) of the noise.
            repetitions: Batches that are timed, after two that are not.

        Returns:
            Timing: Milliseconds, and what they belong to.

        Raises:
            UserError: Something that is no image.
        """
        check_count('batch_size', batch_size, 'try batch_size=1')
        check_count('repetitions', repetitions, 'try repetitions=10')
        if images is None:
            images = np.random.RandomState(0).randint(0, 256, (*size, 3), np.uint8)
        given = [one.image for one in given_images(images)]
        batch = [given[i % len(given)] for i in range(batch_size)]
        shown = self.infer.read_image(batch[0]) if isinstance(batch[0], str) else batch[0]
        data = self.infer.prepare(batch)
        self.network.eval()
        times = [self._timed(data) for _ in range(WARM_UPS + repetitions)][WARM_UPS:]
        per_image = [1e3 * seconds / batch_size for seconds in times]
        timing = Timing(
            statistics.median(per_image),
            min(per_image),
            max(per_image),
            repetitions,
            batch_size,
            tuple(shown.shape[:2]),
            self._input_size(data),
            str(self.device),
            torch.get_num_threads(),
        )
        print(timing)
        return timing

    def _timed(self, data: Any) -> float:
        begin = time.perf_counter()
        self.infer.forward(data)
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - begin

    def _input_size(self, data: Any) -> tuple[int, int]:
        with torch.no_grad():
            return tuple(self.network.data_preprocessor(data, False)['inputs'].shape[-2:])


class Detector(LoadedModel):
    """A detector that is ready to be called. :func:`load` makes it."""

    def stream(
        self, images: Any, *, score_thr: float = 0.3, batch_size: int = 1
    ) -> Iterator[Detections]:
        """Find objects.

        Args:
            images: A path, a folder (images directly in it, by name), a URL; an array (H, W, 3) in
                BGR, as OpenCV reads it, or (H, W), uint8; a PIL image; a tensor (3, H, W) or
                (N, 3, H, W) in RGB, uint8 or from 0 to 1; or a list of these, mixed.
            score_thr: Only objects that score more are returned.
            batch_size: Images that go through the network together.

        Yields:
            Detections: Of each image.

        Raises:
            UserError: Something that is no image, whose meaning is open, or that cannot be read.
        """
        if not 0 <= score_thr <= 1:
            raise UserError(f'score_thr must be from 0 to 1, got {score_thr!r}; the default is 0.3')
        given = given_images(images)
        ids = image_ids([Path(one.path) if one.path else None for one in given])
        for found in self.results(given, ids, batch_size):
            yield found.above(score_thr)

    def results(
        self, given: Sequence[Given], ids: Sequence[int], batch_size: int = 1
    ) -> Iterator[Detections]:
        """Everything that is found in images that are known to be such, of any depth.

        Args:
            given: The images.
            ids: Of the images, for COCO's form.
            batch_size: As in :meth:`stream`.
        """
        for i, sample in self._samples(given, batch_size):
            yield self._result(given[i], ids[i], sample)

    @cached_property
    def category_ids(self) -> list[int]:
        """The dataset's category ids by label."""
        return category_ids(self.names, coco_annotations(self.infer.cfg))

    def _result(self, given: Given, image_id: int, sample: DetDataSample) -> Detections:
        found = sample.pred_instances.numpy()
        return Detections(
            self.infer,
            given.image,
            given.path,
            tuple(sample.ori_shape),
            found.bboxes,
            found.scores,
            found.labels,
            found.masks.astype(bool) if 'masks' in found else None,
            image_id,
            self.category_ids,
        )


class Classifier(LoadedModel):
    """A classifier that is ready to be called. :func:`load` makes it."""

    def stream(
        self, images: Any, *, top_k: int = 5, batch_size: int = 1
    ) -> Iterator[Classification]:
        """Name the most likely classes.

        Args:
            images: As in :meth:`Detector.stream`.
            top_k: How many classes to name.
            batch_size: Images that go through the network together.

        Yields:
            Classification: Of each image.

        Raises:
            UserError: As in :meth:`Detector.stream`.
        """
        check_count('top_k', top_k, 'the default is 5')
        yield from self.results(given_images(images), top_k, batch_size)

    def results(
        self, given: Sequence[Given], top_k: int = 5, batch_size: int = 1
    ) -> Iterator[Classification]:
        """The same of images that are known to be such, of any depth."""
        for i, sample in self._samples(given, batch_size):
            yield self._result(given[i], sample, top_k)

    def _result(self, given: Given, sample: DataSample, top_k: int) -> Classification:
        scores = sample.pred_score.float().cpu()
        best = torch.topk(scores, min(top_k, len(scores)))
        return Classification(
            self.infer,
            given.image,
            given.path,
            tuple(sample.ori_shape),
            best.indices.numpy(),
            best.values.numpy(),
            scores.numpy(),
        )


def ready(infer: KWDetInferencer | KWClassificationInferencer) -> Detector | Classifier:
    """An inferencer as a model that is ready to be called."""
    return (Detector if isinstance(infer, KWDetInferencer) else Classifier)(infer)


def load(
    config: Config | str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
    device: str | None = None,
) -> Detector | Classifier:
    """A model that is ready to be called with images.

    Args:
        config: A config, its file, or the name of one that comes with kw_mm
            ('mask_rcnn_kw_r50_1x_coco'). A checkpoint that a run has saved has its config in it:
            it can be given by itself.
        checkpoint: File or URL, in any layout (:doc:`pretrained`), of the whole model. Without,
            the network begins as the config's training does: what is not pretrained is random, and
            a line of the log says so.
        device: Where to run; by default a GPU if there is one.

    Returns:
        Detector or Classifier: Call it with images; it returns a result for each.

    Raises:
        UserError: A config or checkpoint that cannot be read, or that do not fit each other.

    Example:
        >>> import kw_mm
        >>> model = kw_mm.load('mask_rcnn_kw_r50_1x_coco', 'epoch_12.pth')
        >>> (found,) = model('street.jpg', score_thr=0.5)
        >>> found.boxes, found.names, found.scores, found.masks
        >>> found.save('street_found.jpg')
    """
    if isinstance(config, os.PathLike):
        config = os.fspath(config)
    if checkpoint is None and isinstance(config, str) and config.endswith(CHECKPOINT_ENDINGS):
        config, checkpoint = None, config
    if config is None and checkpoint is None:
        raise UserError(
            'a model needs a config, or a checkpoint that a run has saved, got neither; for '
            "example kw_mm.load('mask_rcnn_kw_r50_1x_coco', 'epoch_12.pth')"
        )
    path = None if checkpoint is None else os.fspath(checkpoint)
    if config is None:
        config = config_in(path)
    cfg = load_config(config) if isinstance(config, str) else config
    return ready(load_inferencer(cfg, path, device))
