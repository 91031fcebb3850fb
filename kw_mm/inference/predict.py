"""Predicting as ``tools/predict.py`` was told."""

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.structures import BaseDataElement

from ..command_line import check_checkpoint
from ..errors import UserError
from ..evaluation.coco_form import category_ids, coco_results
from ..run_config import coco_annotations, load_config
from .drawing import Drawing
from .inputs import find_inputs, output_names, read_image, read_video
from .predictor import Predictor


def predict(args: Namespace) -> None:
    """Draw detections of pictures and videos, or name the classes of pictures.

    Raises:
        UserError: Nothing to predict on, a model that cannot be loaded or, after all else is done,
            damaged files.
    """
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    if not 0 <= args.score_thr <= 1:
        raise UserError(
            f'--score-thr {args.score_thr:g} is not between 0 and 1; the default is 0.3'
        )
    inputs = find_inputs(args.inputs)
    predictor = Predictor(cfg, args.checkpoint, args.device)
    if not _is_detector(predictor):
        if inputs.videos:
            raise UserError(
                f'{str(inputs.videos[0])!r} is a video, and the config a classifier, which takes pictures alone'
            )
        _classify(predictor, inputs.images)
        return
    out = Path(args.out_dir)
    _check_overwriting(inputs.images + inputs.videos, out)
    detect = Detection(
        predictor, out, args.score_thr, category_ids(predictor.classes, coco_annotations(cfg))
    )
    problems = []
    for video, name in output_names(inputs.videos, '.mp4').items():
        with _put_aside(problems):
            detect.video(video, name)
    if inputs.images:
        with _put_aside(problems):
            detect.images(inputs.images)
    if problems:
        raise UserError('; '.join(problems))


class Detection:
    """Draws and writes down what a detector finds.

    Args:
        predictor: The detector.
        out: Folder to write to.
        score_thr: For drawing; everything is written down.
        ids: Category ids by label.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(
        self, predictor: Predictor, out: Path, score_thr: float, ids: Sequence[int]
    ) -> None:
        self.predictor, self.out, self.score_thr, self.ids = predictor, out, score_thr, ids
        self.draw = Drawing(predictor.classes, predictor.palette, score_thr)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f'--out-dir {str(out)!r} cannot be made ({error.strerror}); name another'
            ) from error

    def images(self, paths: Sequence[Path]) -> None:
        """Pictures, and ``predictions.json`` of them all.

        Raises:
            UserError: Names the damaged ones, after all others are done.
        """
        results, damaged = [], []
        names, image_ids = output_names(paths), _image_ids(paths)
        for path, image in _readable(paths, damaged):
            drawn, found = self._detect(image, image_ids[path], path)
            mmcv.imwrite(drawn, str(self.out / names[path]))
            print(f'{self.out / names[path]}: {self._summary(found)}')
            results += found
        _write(self.out / 'predictions.json', results)
        _name(damaged, len(paths))

    def video(self, path: Path, name: str) -> None:
        """A video, and ``<name>.json``, in which image ids are numbers of frames from 0 on.

        Raises:
            UserError: It cannot be read.
        """
        rate, frames = read_video(path)
        results: list[dict[str, Any]] = []
        writer = None
        for number, frame in enumerate(frames):
            drawn, found = self._detect(frame, number, path)
            if writer is None:
                size = drawn.shape[1], drawn.shape[0]
                writer = cv2.VideoWriter(
                    str(self.out / name), cv2.VideoWriter_fourcc(*'mp4v'), rate, size
                )
            writer.write(drawn)
            results += found
        writer.release()
        _write(self.out / f'{Path(name).stem}.json', results)
        print(f'{self.out / name}: {number + 1} frames, {self._summary(results)}')

    def _detect(
        self, image: np.ndarray, image_id: int, path: Path
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        sample = self.predictor(image, str(path))
        found = coco_results(
            sample.pred_instances, image_id, path.name, self.predictor.classes, self.ids
        )
        return np.ascontiguousarray(self.draw(image, sample)), found

    def _summary(self, results: Sequence[dict[str, Any]]) -> str:
        counts = Counter(
            result['category_name'] for result in results if result['score'] > self.score_thr
        )
        return ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'


def _is_detector(predictor: Predictor) -> bool:
    return hasattr(predictor.model, 'with_bbox')


def _classify(predictor: Predictor, paths: Sequence[Path], most: int = 5) -> None:
    """Print the most likely classes of each picture."""
    damaged: list[Path] = []
    for path, image in _readable(paths, damaged):
        sample: BaseDataElement = predictor(image, str(path))
        scores, labels = torch.topk(sample.pred_score, min(most, len(predictor.classes)))
        print(path)
        for score, label in zip(scores.tolist(), labels.tolist()):
            print(f'  {100 * score:5.1f} %  {predictor.classes[label]}')
    _name(damaged, len(paths))


def _readable(paths: Sequence[Path], damaged: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    """The pictures that can be read; the paths of the others are put aside."""
    for path in paths:
        image = read_image(path)
        if image is None:
            damaged.append(path)
        else:
            yield path, image


def _name(damaged: Sequence[Path], number: int) -> None:
    if damaged:
        named = ', '.join(map(str, damaged[:3])) + (
            f' and {len(damaged) - 3} more' if len(damaged) > 3 else ''
        )
        raise UserError(f'{len(damaged)} of {number} pictures cannot be read: {named}')


@contextmanager
def _put_aside(problems: list[str]) -> Iterator[None]:
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
                f'--out-dir {str(out)!r} is the folder that {path.name!r} is read from, and would be written '
                'over; name another'
            )


def _write(path: Path, results: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(results))
    print(f'{path}: {len(results)} detections', file=sys.stderr)
