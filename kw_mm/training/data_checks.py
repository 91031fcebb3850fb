"""Looking at datasets before the first iteration: instances, classes, and what is left for an epoch's last batch."""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..errors import BatchSizeError, UserError

ATTENTION = 'Attention'  # in the class names of attention branches
HEADS = ('bbox_head', 'mask_head', 'head')


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
    """Check that a dataset's classes are those of its annotation file, and as many as the model's heads predict.

    Raises:
        UserError: Names the classes, or the heads, that differ.
    """
    for part in parts_of(dataset):
        metainfo = getattr(part, 'metainfo', None) or {}
        classes = metainfo.get('classes')
        if (
            not classes or 'thing_classes' in metainfo
        ):  # of a panoptic set, heads predict a part each
            continue
        if isinstance(classes, str):
            raise UserError(
                f'metainfo.classes={classes!r} of {_name(part)} is one string; write ({classes!r}, )'
            )
        if len(getattr(part, 'cat_ids', classes)) != len(classes):
            raise UserError(
                f'{_name(part)} has {len(part.cat_ids)} of the {len(classes)} classes that the config expects '
                f"({_few(classes)}); set the datasets' metainfo=dict(classes=(...)) to the names in the file"
            )
        for head, predicted in _predictions(model):
            if predicted != len(classes):
                raise UserError(
                    f'{head} predicts {predicted} classes, but {_name(part)} has {len(classes)} '
                    f'({_few(classes)}); set num_classes={len(classes)} there'
                )


def check_instances(dataset: Dataset) -> None:
    """Check that some image of a training set has an instance; it reads as far as the first.

    Raises:
        UserError: None has one, or there are no images.
    """
    infos = (
        (dataset.get_data_info(index) for index in range(len(dataset)))
        if hasattr(dataset, 'get_data_info')
        else [{}]
    )
    if not any(info.get('instances', True) for info in infos):
        files = ', '.join(_name(part) for part in parts_of(dataset))
        raise UserError(
            f'the training set has no instance of its classes: {files} gives {len(dataset)} images to train on, '
            'none of them with a box; are the classes and the annotation file those of these images?'
        )


def check_batches(loader: DataLoader, model: nn.Module) -> None:
    """Check that no training batch has a single image where attention normalises over the batch.

    Raises:
        BatchSizeError: The batch size is 1, or leaves one image for the last batch of every epoch.
    """
    batches = loader.batch_sampler
    size, sampler = (
        getattr(batches, 'batch_size', None) or 0,
        getattr(batches, 'sampler', loader.sampler),
    )
    if not _normalises_over_batch(model) or not size:
        return
    mend = "train with norm_eval=True, or attention_norm='LN', or SyncBN over several GPUs"
    if size == 1:
        raise BatchSizeError(
            'train_dataloader.batch_size=1 is one image per GPU, but the attention branches normalise over '
            f'the batch (BatchNorm1d); use 2 or more, or {mend}'
        )
    drops = getattr(batches, 'drop_last', False)
    if len(sampler) % size == 1 and not drops and not isinstance(sampler, InfiniteSampler):
        where = (
            'drop_last'
            if type(batches).__module__.startswith('torch.')
            else 'batch_sampler.drop_last'
        )
        raise BatchSizeError(
            f'train_dataloader.batch_size={size} leaves one of {len(sampler)} images for the last batch of '
            'every epoch, but the attention branches normalise over the batch (BatchNorm1d); set '
            f'train_dataloader.{where}=True, use another batch size, or {mend}'
        )


def parts_of(dataset: Dataset) -> Iterator[Any]:
    """The datasets inside wrappers such as RepeatDataset and ConcatDataset, or the dataset itself."""
    inner: list[Any] = list(getattr(dataset, 'datasets', ())) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from parts_of(part)


def _predictions(model: nn.Module) -> Iterator[tuple[str, int]]:
    """(name, number of classes) of the heads that predict a dataset's classes; cascades have lists of heads."""
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
        if ATTENTION in type(branch).__name__
        for norm in branch.modules()
    )


def _name(dataset: Any) -> str:
    path = getattr(dataset, 'ann_file', None)
    return f'annotation file {path!r}' if path else type(dataset).__name__


def _few(classes: Any, most: int = 5) -> str:
    return ', '.join(map(str, classes[:most])) + (', ...' if len(classes) > most else '')
