"""Predicting as ``tools/predict.py`` was told."""

import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, UserError, one_line
from ..evaluation.coco_results import write_results
from ..files import check_folder
from ..run_config import load_config
from ..validation import few
from .drawings import write_picture, write_video
from .given_images import Given
from .inferencers import detects
from .inputs import find_inputs, image_ids, output_names, read_video
from .loaded import Classifier, Detector, load

MOST_LIKELY = 5
MOST_QUOTED_OF_ERROR = 200  # characters
SECONDS_BETWEEN_SAVES = 30.0
PAUSES_PER_SAVE = 20  # the longer saving takes, the longer it is left alone


def predict(args: Namespace) -> None:
    """Draw detections of pictures and videos, or name the classes of pictures.

    Args:
        args: As ``tools/predict.py`` parses them.

    Raises:
        UserError: Nothing to predict on, a model that cannot be loaded, a folder that cannot be
            written to or, after all else is done, what could not be read, drawn or written.
    """
    cfg = load_config(args.config, args.cfg_options)
    if not 0 <= args.score_thr <= 1:
        raise UserError(
            f'--score-thr {args.score_thr:g} is not between 0 and 1; the default is 0.3'
        )
    inputs, out = find_inputs(args.inputs), Path(args.out_dir)
    draws = detects(cfg)
    if draws:
        _check_overwriting(inputs.images + inputs.videos, out)
        check_folder(out, '--out-dir')
    elif inputs.videos:
        raise UserError(
            f'{str(inputs.videos[0])!r} is a video, and the config a classifier, which takes '
            'pictures only'
        )
    model = load(cfg, args.checkpoint, args.device)
    problems = Problems()
    if draws:
        detection = Detection(model, out, args.score_thr, problems)
        for video, name in output_names(inputs.videos, '.mp4').items():
            with problems.of(video):
                detection.video(video, name)
        if inputs.images:
            with problems.of(out / 'predictions.json'):
                detection.images(inputs.images)
    else:
        classify(model, inputs.images, problems)
    problems.raise_all(len(inputs.images))


class Problems:
    """What could not be read, drawn or written, to be named when all else is done."""

    def __init__(self) -> None:
        self.unread: list[Path] = []
        self.failed: list[str] = []
        self.sentences: list[str] = []
        self._first: Exception | None = None

    @contextmanager
    def of(self, path: Path, what: str = '') -> Iterator[None]:
        """Note an error and go on.

        Args:
            path: The file that it concerns.
            what: The part of it, such as a frame.
        """
        try:
            yield
        except ImageError:
            self.unread.append(path)
        except UserError as error:
            self._note(error, self.sentences, str(error))
        except Exception as error:  # whatever OpenCV, a pipeline or a model make of an odd picture
            reason = one_line(error)[:MOST_QUOTED_OF_ERROR]
            self._note(error, self.failed, f'{str(path)!r}{what} ({reason})')

    def _note(self, error: Exception, notes: list[str], text: str) -> None:
        self._first = self._first or error
        notes.append(text)

    def raise_all(self, number: int) -> None:
        """End with one error that names them all.

        Args:
            number: Pictures that there were.

        Raises:
            UserError: There is something to name.
        """
        texts = list(self.sentences)
        if self.unread:
            texts.append(
                f'{len(self.unread)} of {number} pictures cannot be read: {few(self.unread)}'
            )
        if self.failed:
            texts.append(f'{len(self.failed)} could not be processed: {few(self.failed)}')
        if texts:
            raise UserError('; '.join(texts)) from self._first


class Detection:
    """Draws and writes down what a detector finds.

    Args:
        model: The detector.
        out: Folder to write to.
        score_thr: For drawing; everything is written down.
        problems: Where what goes wrong with a picture is noted.
    """

    def __init__(self, model: Detector, out: Path, score_thr: float, problems: Problems) -> None:
        self.model, self.out, self.score_thr, self.problems = model, out, score_thr, problems

    def images(self, paths: Sequence[Path]) -> None:
        """Pictures, and ``predictions.json`` of them all; a bad one is noted.

        Raises:
            OSError: The disk does not take the predictions.
        """
        names, ids = output_names(paths), dict(zip(paths, image_ids(paths)))
        with Predictions(self.out / 'predictions.json') as predictions:
            for path in paths:
                with self.problems.of(path):
                    image = self.model.infer.read_image(str(path))
                    drawn, found = self._detect(image, ids[path], path)
                    predictions.add(found)
                    write_picture(self.out / names[path], drawn)
                    print(f'{self.out / names[path]}: {self._summary(found)}')

    def video(self, path: Path, name: str) -> None:
        """A video, and ``<name>.json``, in which image ids are numbers of frames from 0 on.

        A frame for which detection fails is noted, and is in the video as it is.

        Raises:
            UserError: It cannot be read, or what is drawn cannot be written.
        """
        rate, frames = read_video(path)
        with Predictions(self.out / f'{Path(name).stem}.json') as predictions:

            def drawings() -> Iterator[np.ndarray]:
                for i, frame in enumerate(frames):
                    drawn = frame
                    with self.problems.of(path, f', frame {i}'):
                        drawn, found = self._detect(frame, i, path)
                        predictions.add(found)
                    yield drawn

            number = write_video(self.out / name, rate, drawings())
        print(f'{self.out / name}: {number} frames, {self._summary(predictions.results)}')

    def _detect(
        self, image: np.ndarray, image_id: int, path: Path
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The drawn picture (H, W, 3) in BGR, and the detections in COCO's result form."""
        (found,) = self.model.results([Given(image, str(path))], [image_id])
        return found.above(self.score_thr).plot(), found.to_coco()

    def _summary(self, results: Sequence[dict[str, Any]]) -> str:
        counts = Counter(
            result['category_name'] for result in results if result['score'] > self.score_thr
        )
        return ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'


class Predictions:
    """Detections on their way to a file, which has all of them at the end, however it comes.

    In between, it has those of some time ago, so that not all is lost with a process.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, []
        self._saved = time.monotonic()
        self._pause = SECONDS_BETWEEN_SAVES

    def __enter__(self) -> 'Predictions':
        return self

    def __exit__(self, *error: object) -> None:
        write_results(self.path, self.results)
        print(f'{self.path}: {len(self.results)} detections', file=sys.stderr)

    def add(self, results: Sequence[dict[str, Any]]) -> None:
        """Add those of a picture, and save all if that was long ago."""
        self.results += results
        now = time.monotonic()
        if now - self._saved > self._pause:
            write_results(self.path, self.results)
            self._saved = time.monotonic()
            self._pause = max(self._pause, PAUSES_PER_SAVE * (self._saved - now))


def classify(model: Classifier, paths: Sequence[Path], problems: Problems) -> None:
    """Print the most likely classes of each picture; a bad one is noted."""
    for path in paths:
        with problems.of(path):
            image = model.infer.read_image(str(path))
            (found,) = model.results([Given(image, str(path))], MOST_LIKELY)
            lines = [
                f'  {100 * score:5.1f} %  {name}' for score, name in zip(found.scores, found.names)
            ]
            print(path, *lines, sep='\n')


def _check_overwriting(paths: Sequence[Path], out: Path) -> None:
    folder = out.resolve()
    for path in paths:
        if path.resolve().parent == folder:
            raise UserError(
                f'--out-dir {str(out)!r} is the folder that {path.name!r} is read from, and would '
                'be written over; name another'
            )
