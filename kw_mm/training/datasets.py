"""Building detection datasets whose annotations are checked, and images compared with them."""

import logging
from typing import Any

from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ..annotations import Account
from ..annotations.counting import OTHER_CLASS
from ..annotations.image_sizes import other_size
from ..errors import AnnotationError, ImageError, UserError
from ..run_config import annotation_path, is_kind, walk_datasets, walk_transforms
from ..validation import few


def build_dataset(cfg: dict[str, Any]) -> Any:
    """Build a dataset from its config, wrappers included.

    Of mmdet's datasets in COCO's form, the annotation file is checked by value when it is read, a
    log line says how much of it reaches training and why the rest does not, and labels follow the
    order of the classes. Of all of mmdet's, an image must have the size that its annotations are
    made for. Datasets in wrappers of other packages are built as these do.

    Args:
        cfg: The config, which is not changed.

    Raises:
        AnnotationError: The file has a value that cannot be read as what it is, or nothing is left.
    """
    masks = any(
        step.get('with_mask')
        for _, dataset in walk_datasets(cfg)
        for step in walk_transforms(dataset.get('pipeline'))
    )
    return DATASETS.build(_with_built_leaves(cfg, masks))


def _with_built_leaves(cfg: dict[str, Any], masks: bool) -> Any:
    """The config with objects in place of the datasets that others wrap."""
    inner = {key: cfg[key] for key in ('dataset', 'datasets') if cfg.get(key)}
    if not inner:
        return dict(type=_build, cfg=cfg, masks=masks)
    if not _is_known_wrapper(cfg):
        return cfg
    built = {
        key: _unless_wrapper(value, masks)
        if isinstance(value, dict)
        else [_unless_wrapper(part, masks) for part in value]
        for key, value in inner.items()
    }
    return {**cfg, **built}


def _unless_wrapper(cfg: Any, masks: bool) -> Any:
    if not isinstance(cfg, dict):
        return cfg
    made = _with_built_leaves(cfg, masks)
    return DATASETS.build(made) if made.get('type') is _build else made


def _is_known_wrapper(cfg: dict[str, Any]) -> bool:
    from mmdet.datasets import MultiImageMixDataset

    kinds = (ConcatDataset, RepeatDataset, ClassBalancedDataset, MultiImageMixDataset)
    return any(is_kind(cfg, DATASETS, kind, cfg.get('_scope_')) for kind in kinds)


def _build(cfg: dict[str, Any], masks: bool) -> Any:
    """Build a dataset that wraps no other."""
    from mmdet.datasets import BaseDetDataset, CocoDataset

    if is_kind(cfg, DATASETS, CocoDataset, cfg.get('_scope_')):
        check_class_settings(cfg)
        dataset = DATASETS.build({**cfg, 'lazy_init': True})
        _initialise(dataset, _give_reader(dataset, annotation_path(cfg), masks))
    else:
        dataset = DATASETS.build(cfg)
    if isinstance(dataset, BaseDetDataset):
        dataset.prepare_data = SizeCheck(dataset)
    return dataset


def check_class_settings(cfg: dict[str, Any]) -> None:
    """Check that a dataset's config names its classes where mmdet 3 looks for them.

    Raises:
        UserError: It names them as mmdet 2 did; there, they would be refused or ignored.
    """
    metainfo = cfg.get('metainfo') or {}
    other = [key for key in metainfo if key.lower() == 'classes' and key != 'classes']
    if 'classes' in cfg or other:
        setting = 'classes' if 'classes' in cfg else f'metainfo.{other[0]}'
        raise UserError(
            f'{setting} of annotation file {annotation_path(cfg)!r} is not read; since mmdet 3, '
            'classes are named in metainfo=dict(classes=(...))'
        )


def _give_reader(dataset: Any, name: str, masks: bool) -> Any:
    """Let a dataset read its file with care, if it reads it with mmdet's ``COCO``."""
    from mmdet.datasets.api_wrappers import COCO

    from ..annotations.coco_reader import AnnotationReader

    classes = dataset.metainfo.get('classes')
    if isinstance(classes, str):  # a name of a file has become what is in it by now
        raise UserError(
            f'metainfo.classes={classes!r} of annotation file {name!r} is one string; write '
            f'({classes!r}, )'
        )
    if type(dataset).COCOAPI is not COCO or not isinstance(classes, (list, tuple)):
        return None
    reader = AnnotationReader(
        name,
        classes,
        masks=masks,
        evaluated=dataset.test_mode,
        min_size=(dataset.filter_cfg or {}).get('min_size', 0),
    )
    dataset.COCOAPI = reader
    return reader


def _initialise(dataset: BaseDataset, reader: Any) -> None:
    try:
        dataset.full_init()
    except UserError:
        raise
    except Exception as error:
        account = reader and reader.account
        if account is None or account.used or not account.annotations:
            raise
        raise AnnotationError(nothing_left(reader)) from error
    if reader is not None and reader.account is not None:
        _report(dataset, reader, reader.account)


def _report(dataset: Any, reader: Any, account: Account) -> None:
    """Say what reaches training; of what is evaluated on, what surprises."""
    if account.evaluated and account.surprising and not account.used:
        raise AnnotationError(nothing_left(reader))
    if account.evaluated and not account.surprising:
        return
    known = not account.evaluated and dataset._indices is None
    print_log(
        f'annotation file {reader.name!r}: {account.summary(len(dataset) if known else None)}',
        logger='current',
        level=logging.WARNING if account.surprising else logging.INFO,
    )


def nothing_left(reader: Any) -> str:
    """A sentence about a file of whose annotations none can be used.

    Args:
        reader: The :class:`~kw_mm.annotations.coco_reader.AnnotationReader` that has read it.
    """
    account = reader.account
    use = 'evaluate on' if account.evaluated else 'train on'
    if set(account.lost) == {OTHER_CLASS}:
        return (
            f'annotation file {reader.name!r} has none of the {len(reader.classes)} classes that '
            f'the config expects ({few(list(reader.classes), 5)}), it has '
            f"{few(reader.categories, 5)}; set the datasets' metainfo=dict(classes=(...)) to the "
            'names in the file, and num_classes of the heads to how many they are'
        )
    return (
        f'annotation file {reader.name!r} gives no instance of its classes to {use}; of its '
        f'{account.annotations} annotations, all are left out: {account.reasons()}'
    )


class SizeCheck:
    """Stands for ``prepare_data`` of one dataset: the image that was loaded is the annotated one.

    Args:
        dataset: One of mmdet's.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> Any:
        """Get a sample.

        Raises:
            ImageError: The image has another size than the annotations are made for.
        """
        try:
            sample = type(self.dataset).prepare_data(self.dataset, index)
        except UserError:
            raise
        except Exception as error:  # of what was made from an image and masks of two sizes
            self._check(index, self._loaded_size(index), error)
            raise
        if sample is not None:
            self._check(index, _size_in(sample))
        return sample

    def _check(self, index: int, size: Any, cause: Exception | None = None) -> None:
        info = self.dataset.get_data_info(index)
        problem = other_size(info, size)
        if problem:
            raise ImageError(problem) from cause

    def _loaded_size(self, index: int) -> Any:
        steps = getattr(self.dataset.pipeline, 'transforms', None) or [None]
        try:
            return steps[0](self.dataset.get_data_info(index))['ori_shape']
        except Exception:  # the first error is the one to tell of
            return None


def _size_in(sample: Any) -> Any:
    """(height, width) as loaded, of a sample that is packed or not yet."""
    if not isinstance(sample, dict):
        return None
    packed = sample.get('data_samples')
    return sample.get('ori_shape') if packed is None else getattr(packed, 'ori_shape', None)
