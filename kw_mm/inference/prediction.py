"""Predicting as ``tools/predict.py`` was told."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ImageError, UserError
from ..evaluation.coco_results import category_ids, coco_results, write_results
from ..run_config import coco_annotations, load_config
from ..validation import few
from .drawings import write_picture, write_video
from .inferencers import KWClassificationInferencer, KWDetInferencer, load_inferencer
from .inputs import find_inputs, output_names, read_video

MOST_LIKELY = 5


def predict(args: Namespace) -> None:
    """Draw detections of pictures and videos, or name the classes of pictures.

    Args:
        args: As ``tools/predict.py`` parses them.

    Raises:
        UserError: Nothing to predict on, a model that cannot be loaded or, after all else is done,
            damaged files.
    """
    cfg = load_config(args.config, args.cfg_options)
    if not 0 <= args.score_thr <= 1:
        raise UserError(
            f'--score-thr {args.score_thr:g} is not between 0 and 1; the default is 0.3'
        )
    inputs = find_inputs(args.inputs)
    infer = load_inferencer(cfg, args.checkpoint, args.device)
    if isinstance(infer, KWClassificationInferencer):
        if inputs.videos:
            raise UserError(
                f'{str(inputs.videos[0])!r} is a video, and the config a classifier, '
                'which takes pictures only'
            )
        classify(infer, inputs.images)
        return
    out = Path(args.out_dir)
    _check_overwriting(inputs.images + inputs.videos, out)
    ids = category_ids(infer.class_names, coco_annotations(cfg))
    detection = Detection(infer, out, args.score_thr, ids)
    problems: list[str] = []
    for video, name in output_names(inputs.videos, '.mp4').items():
        with _noting(problems):
            detection.video(video, name)
    if inputs.images:
        with _noting(problems):
            detection.images(inputs.images)
    if problems:
        raise UserError('; '.join(problems))


class Detection:
    """Draws and writes down what a detector finds.

    Args:
        infer: The detector.
        out: Folder to write to.
        score_thr: For drawing; everything is written down.
        ids: Category ids by label.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(
        self, infer: KWDetInferencer, out: Path, score_thr: float, ids: Sequence[int]
    ) -> None:
        self.infer, self.out, self.score_thr, self.ids = infer, out, score_thr, ids
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f'--out-dir {str(out)!r} cannot be made ({error.strerror}); name another'
            ) from error

    def images(self, paths: Sequence[Path]) -> None:
        """Pictures, and ``predictions.json`` of them all.

        Raises:
            UserError: Names the damaged ones, after all others are done; or one cannot be written.
        """
        results: list[dict[str, Any]] = []
        damaged: list[Path] = []
        names, image_ids = output_names(paths), _image_ids(paths)
        for path, image in _readable(self.infer, paths, damaged):
            drawn, found = self._detect(image, image_ids[path], path)
            write_picture(self.out / names[path], drawn)
            print(f'{self.out / names[path]}: {self._summary(found)}')
            results += found
        _write(self.out / 'predictions.json', results)
        _raise_damaged(damaged, len(paths))

    def video(self, path: Path, name: str) -> None:
        """A video, and ``<name>.json``, in which image ids are numbers of frames from 0 on.

        Raises:
            UserError: It cannot be read, or what is drawn cannot be written.
        """
        rate, frames = read_video(path)
        results: list[dict[str, Any]] = []

        def drawings() -> Iterator[np.ndarray]:
            for i, frame in enumerate(frames):
                drawn, found = self._detect(frame, i, path)
                results.extend(found)
                yield drawn

        number = write_video(self.out / name, rate, drawings())
        _write(self.out / f'{Path(name).stem}.json', results)
        print(f'{self.out / name}: {number} frames, {self._summary(results)}')

    def _detect(
        self, image: np.ndarray, image_id: int, path: Path
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The drawn picture (H, W, 3) in BGR, and the detections in COCO's result form."""
        done = self.infer(
            image, return_datasamples=True, return_vis=True, pred_score_thr=self.score_thr
        )
        instances = done['predictions'][0].pred_instances
        found = coco_results(instances, image_id, path.name, self.infer.class_names, self.ids)
        return np.ascontiguousarray(done['visualization'][0][..., ::-1]), found

    def _summary(self, results: Sequence[dict[str, Any]]) -> str:
        counts = Counter(
            result['category_name'] for result in results if result['score'] > self.score_thr
        )
        return ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'


def classify(infer: KWClassificationInferencer, paths: Sequence[Path]) -> None:
    """Print the most likely classes of each picture.

    Raises:
        UserError: Names the damaged ones, after all others are done.
    """
    damaged: list[Path] = []
    for path, image in _readable(infer, paths, damaged):
        (sample,) = infer(image, return_datasamples=True)
        scores, labels = torch.topk(sample.pred_score, min(MOST_LIKELY, len(infer.class_names)))
        print(path)
        for score, label in zip(scores.tolist(), labels.tolist()):
            print(f'  {100 * score:5.1f} %  {infer.class_names[label]}')
    _raise_damaged(damaged, len(paths))


def _readable(
    infer: KWDetInferencer | KWClassificationInferencer, paths: Sequence[Path], damaged: list[Path]
) -> Iterator[tuple[Path, np.ndarray]]:
    """The pictures that can be read; the paths of the others go into ``damaged``."""
    for path in paths:
        try:
            image = infer.read_image(str(path))
        except ImageError:
            damaged.append(path)
        else:
            yield path, image


def _raise_damaged(damaged: Sequence[Path], number: int) -> None:
    if damaged:
        raise UserError(f'{len(damaged)} of {number} pictures cannot be read: {few(damaged)}')


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Go on after what cannot be read; it is named in the end."""
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def _image_ids(paths: Sequence[Path]) -> dict[Path, int]:
    """COCO calls its pictures after their ids; others are numbered from 1."""
    numbers = {path: int(path.stem) if path.stem.isdecimal() else None for path in paths}
    if None in numbers.values() or len(set(numbers.values())) < len(paths):
        return {path: i for i, path in enumerate(paths, 1)}
    return numbers


def _check_overwriting(paths: Sequence[Path], out: Path) -> None:
    for path in paths:
        if path.resolve().parent == out.resolve():
            raise UserError(
                f'--out-dir {str(out)!r} is the folder that {path.name!r} is read from, and would '
                'be written over; name another'
            )


def _write(path: Path, results: Sequence[dict[str, Any]]) -> None:
    write_results(path, results)
    print(f'{path}: {len(results)} detections', file=sys.stderr)
