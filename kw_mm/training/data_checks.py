"""What a run is given, checked before its first iteration: paths, classes, instances, batches."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..annotations import Account
from ..errors import BatchSizeError, UserError
from ..ops.branch import AttentionBranch
from ..run_config import annotation_path, datasets_of
from ..validation import closest, few

HEADS = ('bbox_head', 'mask_head', 'head')


def check_datasets(cfg: Config, *splits: str) -> None:
    """Check that annotation files and image folders of a config's datasets exist.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test', what the run will use.

    Raises:
        UserError: Names the missing path and the setting it comes from.
    """
    for split in splits:
        for where, dataset in datasets_of(cfg, split):
            for setting, path in _paths(dataset):
                if '://' not in path and not os.path.exists(path):
                    raise UserError(
                        f'{path!r} ({where}.{setting}) does not exist; point data_root at your '
                        f'dataset: --cfg-options {_root_option(cfg, where, dataset)}=PATH/'
                    )


def check_training_data(loader: DataLoader, model: nn.Module) -> None:
    """Check what a training run is given.

    Raises:
        UserError: No instance in the whole set, or classes that do not fit the file or the model's
            heads.
        BatchSizeError: Batches of one image that attention with a batch norm cannot be trained on.
    """
    check_classes(loader.dataset, model)
    check_instances(loader.dataset)
    check_batches(loader, model)


def check_classes(dataset: Dataset, model: nn.Module) -> None:
    """Check that a dataset's classes are its annotation file's, and as many as heads predict.

    Raises:
        UserError: Names the classes, or the heads, that differ.
    """
    for part in parts_of(dataset):
        metainfo = getattr(part, 'metainfo', None) or {}
        classes = metainfo.get('classes')
        if not classes or 'thing_classes' in metainfo:  # panoptic: heads predict a part each
            continue
        if isinstance(classes, str):
            raise UserError(
                f'metainfo.classes={classes!r} of {_name(part)} is one string; '
                f'write ({classes!r}, )'
            )
        if len(getattr(part, 'cat_ids', classes)) != len(classes):
            raise UserError(
                f'{_name(part)} has {len(part.cat_ids)} of the {len(classes)} classes that the '
                f'config expects ({few(classes, 5)}){_unknown_classes(part, classes)}; set the '
                "datasets' metainfo=dict(classes=(...)) to the names in the file"
            )
        wrong = [
            f'{head} predicts {predicted}'
            for head, predicted in _predictions(model)
            if predicted != len(classes)
        ]
        if wrong:
            raise UserError(
                f'{", ".join(wrong)} classes, but {_name(part)} has {len(classes)} '
                f'({few(classes, 5)}); set num_classes={len(classes)} in '
                f'{"each of them" if len(wrong) > 1 else "it"}'
            )


def check_metrics(metrics: Iterable[Any], dataset: Dataset) -> None:
    """Check that mmdet's own metric, if it is used, evaluates its annotation file as it is meant.

    Raises:
        UserError: It would not; names the metric that does.
    """
    from mmdet.evaluation import CocoMetric

    from ..evaluation.ground_truth import fault_of_stock_metric

    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    for metric in metrics:
        coco = getattr(metric, '_coco_api', None)
        if type(metric) is CocoMetric and coco is not None and classes:
            fault = fault_of_stock_metric(coco, classes)
            if fault:
                raise UserError(
                    f"the evaluator's annotation file {fault}; mmdet's CocoMetric cannot evaluate "
                    "it rightly, type='KWCocoMetric' does"
                )


def check_instances(dataset: Dataset) -> None:
    """Check that some image of a training set has an instance; it reads as far as the first.

    Raises:
        UserError: None has one, or there are no images.
    """
    if not hasattr(dataset, 'get_data_info'):
        return
    accounts = [account_of(part) for part in parts_of(dataset)]
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    if all(account is not None and not account.used for account in accounts) or not any(
        info.get('instances', True) for info in infos
    ):
        files = ', '.join(_name(part) for part in parts_of(dataset))
        reasons = ', '.join(account.reasons() for account in accounts if account and account.lost)
        left_out = f'all annotations are left out: {reasons}'
        raise UserError(
            f'the training set has no instance of its classes: {files} gives {len(dataset)} images '
            'to train on, none of them with a box; '
            + (
                left_out
                if reasons
                else 'are the classes and the annotation file those of these images?'
            )
        )


def check_batches(loader: DataLoader, model: nn.Module) -> None:
    """Check that no training batch has a single image where attention normalises over the batch.

    Raises:
        BatchSizeError: The batch size is 1, or leaves one image for the last batch of every epoch.
    """
    batches = loader.batch_sampler
    size = getattr(batches, 'batch_size', None) or 0
    sampler = getattr(batches, 'sampler', loader.sampler)
    if not size or not _normalises_over_batch(model):
        return
    otherwise = "train with norm_eval=True, or attention_norm='LN', or SyncBN over several GPUs"
    if size == 1:
        raise BatchSizeError(
            'train_dataloader.batch_size=1 is one image per GPU, but the attention branches '
            f'normalise over the batch (BatchNorm1d); use 2 or more, or {otherwise}'
        )
    drops = getattr(batches, 'drop_last', False)
    if len(sampler) % size == 1 and not drops and not isinstance(sampler, InfiniteSampler):
        own = type(batches).__module__.startswith('torch.')
        setting = 'drop_last' if own else 'batch_sampler.drop_last'
        raise BatchSizeError(
            f'train_dataloader.batch_size={size} leaves one of {len(sampler)} images for the last '
            'batch of every epoch, but the attention branches normalise over the batch '
            f'(BatchNorm1d); set train_dataloader.{setting}=True, use another batch size, or '
            f'{otherwise}'
        )


def parts_of(dataset: Dataset) -> Iterator[Any]:
    """The datasets inside wrappers (RepeatDataset, ConcatDataset, ...), or the dataset itself."""
    inner: list[Any] = list(getattr(dataset, 'datasets', ())) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from parts_of(part)


def account_of(dataset: Any) -> Account | None:
    """What a dataset's annotation file gave, if :func:`.datasets.build_dataset` had it checked."""
    return getattr(getattr(dataset, 'COCOAPI', None), 'account', None)


def _paths(dataset: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(setting, path) of what a dataset reads."""
    root = dataset.get('data_root') or ''
    if root:
        yield 'data_root', root
    if dataset.get('ann_file'):
        yield 'ann_file', annotation_path(dataset)
    prefix = dataset.get('data_prefix') or {}
    for name, folder in ({'': prefix} if isinstance(prefix, str) else prefix).items():
        if folder is not None and (root or folder):
            yield f'data_prefix {name}'.rstrip(), os.path.join(root, folder)


def _unknown_classes(dataset: Any, classes: Sequence[str]) -> str:
    """The classes that an annotation file does not have, and the nearest that it has, in words."""
    try:
        with open(dataset.ann_file, encoding='utf-8') as file:
            names = [category['name'] for category in json.load(file)['categories']]
    except (OSError, AttributeError, LookupError, TypeError, ValueError):  # not in COCO's form
        return ''
    unknown = [name for name in classes if name not in names]
    near = [closest(name, map(str, names), most=1, cutoff=0.6) for name in unknown]
    words = [
        f'{name!r} (close to it is {found[0]!r})' if found else repr(name)
        for name, found in zip(unknown, near)
    ]
    return f'; the file, which has {few(names, 5)}, lacks {few(words, 5)}' if unknown else ''


def _root_option(cfg: Config, where: str, dataset: dict[str, Any]) -> str:
    """The option that moves a dataset: the config's data_root, unless the dataset has another."""
    root, own = cfg.get('data_root'), dataset.get('data_root')
    if not own or (root and own.startswith(root)):
        return 'data_root'
    return re.sub(r'\[(\d+)\]', r'.\1', where) + '.data_root'


def _predictions(model: nn.Module) -> Iterator[tuple[str, int]]:
    """(name, number of classes) of the heads that predict a dataset's classes.

    Cascades have lists of heads.
    """
    for name, module in model.named_modules():
        number = getattr(module, 'num_classes', None)
        if isinstance(number, int) and not getattr(module, 'class_agnostic', False):
            if any(part in HEADS for part in name.split('.')[-2:]):
                yield name, number


def _normalises_over_batch(model: nn.Module) -> bool:
    model.train()
    return any(
        isinstance(norm, nn.BatchNorm1d) and norm.training
        for branch in model.modules()
        if isinstance(branch, AttentionBranch) and branch.one_value_per_channel
        for norm in branch.modules()
    )


def _name(dataset: Any) -> str:
    path = getattr(dataset, 'ann_file', None)
    return f'annotation file {path!r}' if path else type(dataset).__name__
