import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from torch import nn

from kw_mm.compared import CGCConv2d, ODConv2d
from kw_mm.errors import BatchSizeError, UserError
from kw_mm.training.data_checks import check_batches, check_classes, check_instances, parts_of
from kw_mm.warehouse import apply_kernel_warehouse


class Images(BaseDataset):
    """Images with as many instances as given."""

    def __init__(self, instances, classes=('cat', 'dog')):
        self.instances = instances
        super().__init__(ann_file='some.json', metainfo=dict(classes=classes), serialize_data=False)

    def load_data_list(self):
        return [
            dict(instances=[dict(bbox_label=0)] * number, width=8, height=8)
            for number in self.instances
        ]


def network(norm='BN1d', mode=True):
    net = nn.Sequential(nn.Conv2d(8, 8, 1))
    apply_kernel_warehouse(net, {'all': ['0']}, attention_norm=norm, init='published')
    net.train = lambda: nn.Module.train(net, mode)  # norm_eval keeps norms in evaluation
    return net


def loader(images, size, **options):
    dataset = dict(type=Images, instances=[1] * images)
    return Runner.build_dataloader(
        dict(
            dict(
                dataset=dataset, batch_size=size, sampler=dict(type='DefaultSampler', shuffle=True)
            ),
            **options,
        )
    )


@pytest.mark.parametrize(
    'images, size, options, fits',
    [
        (6, 1, dict(), False),
        (6, 1, dict(drop_last=True), False),
        (7, 2, dict(), False),
        (6, 2, dict(), True),
        (8, 3, dict(), True),
        (7, 3, dict(), False),
        (7, 2, dict(drop_last=True), True),
        (7, 2, dict(sampler=dict(type='InfiniteSampler')), True),
    ],
)
def test_batches_of_one_image(images, size, options, fits):
    if fits:
        check_batches(loader(images, size, **options), network())
    else:
        with pytest.raises(BatchSizeError, match=f'batch_size={size} .*BatchNorm1d'):
            check_batches(loader(images, size, **options), network())
    for net in (
        network('LN'),
        network('SyncBN'),
        network(mode=False),
        nn.Sequential(nn.BatchNorm1d(3)),
    ):
        check_batches(loader(images, size, **options), net)


def test_every_kind_of_attention_branch_is_known_by_its_type():
    with pytest.raises(BatchSizeError, match='batch_size=1 '):
        check_batches(loader(6, 1), nn.Sequential(ODConv2d(8, 8, 1)))

    gated = CGCConv2d(16, 16, 3)  # its norms get vectors
    check_batches(loader(6, 1), gated)
    gated(torch.randn(1, 16, 8, 8))

    class Attention(nn.BatchNorm1d):
        """No branch, whatever it is called."""

    check_batches(loader(6, 1), nn.Sequential(Attention(8)))


def test_the_setting_of_an_aspect_ratio_sampler_is_named():
    batches = dict(type='mmdet.AspectRatioBatchSampler')
    with pytest.raises(BatchSizeError, match='train_dataloader.batch_sampler.drop_last=True'):
        check_batches(loader(7, 2, batch_sampler=batches), network())
    check_batches(loader(7, 2, batch_sampler=dict(batches, drop_last=True)), network())
    check_batches(loader(8, 2, batch_sampler=batches), network())


def test_one_instance_anywhere_is_enough():
    check_instances(Images([0, 0, 1]))
    check_instances(RepeatDataset(Images([0, 1]), 2))
    check_instances(SimpleNamespace())  # not a dataset that mmengine knows
    for dataset in (Images([0, 0]), ConcatDataset([Images([0]), Images([0])])):
        with pytest.raises(UserError, match='no instance of its classes: .*some.json'):
            check_instances(dataset)


def test_parts_of_wrapped_datasets():
    inner = [Images([1]), Images([2])]
    assert list(parts_of(SimpleNamespace(dataset=ConcatDataset(inner)))) == inner


def heads(**classes):
    model = nn.Module()
    model.roi_head = nn.Module()
    for name, number in classes.items():
        head = nn.ModuleList([nn.Module()]) if name == 'bbox_head' else nn.Module()
        (head[0] if name == 'bbox_head' else head).num_classes = number
        setattr(model.roi_head, name, head)
    return model


def test_heads_must_predict_the_classes():
    dataset = ConcatDataset([Images([1]), Images([1])])
    check_classes(dataset, heads(bbox_head=2, mask_head=2, rpn_head=1, semantic_head=183))
    with pytest.raises(
        UserError, match=r'roi_head.bbox_head.0 predicts 80 classes, but .* has 2 \(cat, dog\)'
    ):
        check_classes(dataset, heads(bbox_head=80))
    with pytest.raises(UserError, match=r"write \('cat', \)"):
        check_classes(SimpleNamespace(metainfo=dict(classes='cat')), heads())


def test_all_heads_that_differ_are_named_at_once():
    model = heads(bbox_head=80, mask_head=81, rpn_head=1)
    with pytest.raises(
        UserError,
        match=r'bbox_head.0 predicts 80, roi_head.mask_head predicts 81 classes, but .* has 2 '
        r'\(cat, dog\); set num_classes=2 in each of them',
    ):
        check_classes(Images([1]), model)


def test_the_misspelt_class_is_named(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text(json.dumps(dict(categories=[dict(name='bicycle'), dict(name='car')])))
    part = SimpleNamespace(
        metainfo=dict(classes=('bycicle', 'car', 'zebra')), ann_file=str(path), cat_ids=[2]
    )
    with pytest.raises(
        UserError,
        match="has bicycle, car, lacks 'bycicle' .close to it is 'bicycle'., 'zebra'; set the data",
    ):
        check_classes(part, nn.Module())
    path.write_text('no annotations in COCO form')
    with pytest.raises(UserError, match=r'has 1 of the 3 classes .*\(bycicle, car, zebra\); set'):
        check_classes(part, nn.Module())
