"""Where class names and colours come from."""

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from kw_mm.errors import UserError
from kw_mm.inference.class_names import dataset_meta

ONE, TWO = [(1, 2, 3)], [(4, 5, 6)]


def config(kind='CocoDataset', **metainfo):
    return Config(dict(test_dataloader=dict(dataset=dict(type=kind, metainfo=metainfo))))


@pytest.mark.parametrize(
    'meta, metainfo, classes, palette',
    [
        (dict(dataset_meta=dict(classes=('a',), palette=ONE)), dict(classes=('b',)), ('a',), ONE),
        (dict(dataset_meta=dict(CLASSES=['a'])), dict(classes=('b',)), ('a',), None),
        (dict(CLASSES=('a',), PALETTE=ONE), dict(classes=('b',)), ('a',), ONE),  # of mmdet 2
        (dict(CLASSES=('a',)), dict(classes=('a',), palette=TWO), ('a',), TWO),
        (dict(CLASSES=('a',)), dict(classes=('b',), palette=TWO), ('a',), None),
        (dict(epoch=3), dict(classes=('b',), palette=TWO), ('b',), TWO),
        (None, dict(classes=('b',)), ('b',), None),
    ],
)
def test_the_checkpoints_then_the_configs(meta, metainfo, classes, palette):
    found = dataset_meta(config(**metainfo), dict(meta=meta), 'mmdet')
    assert found == dict(classes=classes, palette=palette)


def test_then_those_of_the_datasets_type():
    found = dataset_meta(config(), dict(state_dict={}), 'mmdet')
    assert found == CocoDataset.METAINFO and len(found['classes']) == 80


def test_without_any():
    with pytest.raises(UserError, match=r'or known of a BaseDataset; give test_dataloader\..*\(\.'):
        dataset_meta(config('BaseDataset'), {}, 'mmengine')
