"""The names of a trained model's classes, and their colours."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from ..errors import UserError
from ..run_config import tested_dataset


def dataset_meta(cfg: Config, checkpoint: Any, scope: str) -> dict[str, Any]:
    """Class names and palette: the checkpoint's, else the config's, else its dataset's.

    Args:
        cfg: Its tested dataset may name classes in ``metainfo``, and its type may know them.
        checkpoint: What the file of weights holds; its ``meta`` may name classes.
        scope: OpenMMLab's default scope, for the dataset's type.

    Returns:
        dict: ``classes``, a tuple of names by label, and ``palette``, the first that is known of
        these classes, as mmdet takes it, or None.

    Raises:
        UserError: No names are known.
    """
    dataset = tested_dataset(cfg)
    kind = dataset.get('type')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        cls = registry.get(kind) if isinstance(kind, str) else kind
    known = [_saved(checkpoint), dataset.get('metainfo') or {}, getattr(cls, 'METAINFO', {})]
    classes = next((tuple(meta['classes']) for meta in known if meta.get('classes')), None)
    if classes is None:
        raise UserError(
            f'no class names are in the checkpoint, in config {cfg.filename!r} or known of a '
            f'{kind}; give test_dataloader.dataset.metainfo=dict(classes=(...)) in the config'
        )
    palettes = (
        meta.get('palette') for meta in known if tuple(meta.get('classes') or ()) == classes
    )
    return dict(classes=classes, palette=next(filter(None, palettes), None))


def check_number_of_classes(model: nn.Module, classes: tuple[str, ...]) -> None:
    """Check that there is a name for each class of the model's head, where that tells its number.

    Raises:
        UserError: There is not; says both numbers.
    """
    owner = getattr(model, 'roi_head', model)
    heads = (getattr(owner, name, None) for name in ('bbox_head', 'head'))
    number = next((head.num_classes for head in heads if hasattr(head, 'num_classes')), None)
    if number not in (None, len(classes)):
        raise UserError(
            f'the model has {number} classes, but {len(classes)} names are known for them; give '
            'test_dataloader.dataset.metainfo=dict(classes=(...)) in the config, one name per class'
        )


def _saved(checkpoint: Any) -> dict[str, Any]:
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    saved = meta.get('dataset_meta') or meta  # in meta itself: mmdet 2, CLASSES and PALETTE
    return {
        key.lower(): value for key, value in saved.items() if key.lower() in ('classes', 'palette')
    }
