"""Reading images that may be missing or damaged."""

import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS
from torch.utils.data import get_worker_info

from ..annotations.image_sizes import other_size
from ..errors import ImageError
from .file_backends import is_cut_short

MOST_WORKERS = 1024


@TRANSFORMS.register_module(force=True)  # for the name that kw_mm.registration reserves
class KWLoadImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names an image it cannot read or that is cut short.

    So it does with one of another size than its annotations are made for, ``height`` and ``width``
    in the dataset. Versions of OpenCV return a JPEG file that was cut short with its lower part
    grey. The training pipelines of kw_mm's configs begin with this class, those for testing with
    mmcv's own and the backend ``whole_image``: inferencers look for mmcv's by its name.

    Args:
        ignore_empty: Whether to leave out an image that cannot be read: the dataset then takes
            another, and the log names it with the number left out by all workers so far.
            ``tools/train.py --skip-bad-images`` sets it in the training pipeline.
        **kwargs: ``to_float32``, ``color_type``, ``imdecode_backend`` and ``backend_args``, as in
            mmcv.

    Raises:
        ImageError: An image that is missing, damaged, cut short or of another size, unless
            ``ignore_empty``.

    Example:
        >>> train_pipeline = [dict(type='KWLoadImageFromFile'), dict(type='LoadAnnotations')]
    """

    def __init__(self, *, ignore_empty: bool = False, **kwargs):
        super().__init__(ignore_empty=ignore_empty, **kwargs)
        counts = torch.zeros(1 + MOST_WORKERS, dtype=torch.int64)  # of the process, of each worker
        self._left_out = counts.share_memory_()

    @property
    def left_out(self) -> int:
        """How often an image was left out, by all workers that share this transform."""
        return int(self._left_out.sum())

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; None for an image that is left out."""
        path = results['img_path']
        try:
            image = self._read(path)
            problem = other_size(results, image.shape[:2])
            if problem:
                raise ImageError(problem)
        except Exception as error:  # OpenCV, Pillow and file backends each have their own
            reason = ' '.join(str(error).split())[:200]
            if not self.ignore_empty:
                if isinstance(error, ImageError) and error.__cause__ is None:
                    raise
                raise ImageError(
                    f'image {path!r} cannot be read ({reason}); fix it, or train without it: '
                    '--skip-bad-images'
                ) from error
            self._count()
            print_log(
                f'image {path!r} is left out ({reason}); left out so far: {self.left_out}',
                logger='current',
            )
            return None
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _read(self, path: str) -> np.ndarray:
        data = fileio.get(path, backend_args=self.backend_args)
        if is_cut_short(data):
            raise EOFError(f'the file ends after {len(data)} bytes, before its image does')
        image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise ValueError('it cannot be decoded')
        return image.astype(np.float32) if self.to_float32 else image

    def _count(self) -> None:
        worker = get_worker_info()
        self._left_out[0 if worker is None else 1 + worker.id % MOST_WORKERS] += 1
