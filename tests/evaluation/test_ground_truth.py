"""Perfect detections score AP 1, however the annotation file is written."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_coco import ANNOTATION_FIELDS, CLASSES, VALUES, annotations_of, write
from hypothesis import given
from hypothesis import strategies as st
from mmdet.evaluation import CocoMetric

from kw_mm.errors import AnnotationError
from kw_mm.evaluation import KWCocoMetric
from kw_mm.evaluation.fast_coco_eval import BACKENDS
from kw_mm.evaluation.ground_truth import fault_of_stock_metric


def perfect(content, path, classes=CLASSES, only=None, **options):
    """Metrics of detections that are the annotations of a sound file, labels by class name."""
    names = {1: 'box', 2: 'disc'}
    sound = annotations_of(2)
    write(path, content)
    with contextlib.redirect_stdout(io.StringIO()):
        metric = KWCocoMetric(ann_file=str(path), metric=['bbox', 'segm'], **options)
        metric.dataset_meta = dict(classes=classes)
        for image, listed in zip(sound['images'], content['images']):
            own = [
                one
                for one in sound['annotations']
                if one['image_id'] == image['id'] and only in (None, names[one['category_id']])
            ]
            boxes = torch.tensor([one['bbox'] for one in own], dtype=torch.float)
            masks = torch.zeros(len(own), 64, 96, dtype=torch.bool)
            for mask, (x, y, w, h) in zip(masks, boxes.int().tolist()):
                mask[y : y + h, x : x + w] = True
            boxes[:, 2:] += boxes[:, :2]
            found = dict(
                bboxes=boxes,
                masks=masks,
                scores=torch.ones(len(own)),
                labels=torch.tensor([classes.index(names[one['category_id']]) for one in own]),
            )
            metric.process(
                {}, [dict(img_id=listed['id'], ori_shape=(64, 96), pred_instances=found)]
            )
        return metric.evaluate(2)


def each(**fields):
    def edit(content):
        for one in content['annotations']:
            one.update(fields)

    return edit


def ids(first, kind=int):
    def edit(content):
        for number, one in enumerate(content['annotations']):
            one['id'] = kind(first + number)

    return edit


def without(field):
    def edit(content):
        for one in content['annotations']:
            del one[field]

    return edit


def reverse(content):
    content['categories'].reverse()


def renumber(content):
    new = {1: 70, 2: 3}
    for one in content['categories']:
        one['id'] = new[one['id']]
    for one in content['annotations']:
        one['category_id'] = new[one['category_id']]


def strings(content):
    for one in [*content['images'], *content['categories']]:
        one['id'] = f'n{one["id"]}'
    for one in content['annotations']:
        one.update(image_id=f'n{one["image_id"]}', category_id=f'n{one["category_id"]}')


def one_id(content):
    for one in content['annotations']:
        one['id'] = 5


def add(**fields):
    def edit(content):
        content['annotations'].append({**content['annotations'][0], 'id': 99, **fields})

    return edit


def short_part(content):
    content['annotations'][0]['segmentation'].insert(0, [1, 2, 3, 4])


EDITS = dict(
    sound=lambda content: None,
    ids_from_0=ids(0),
    ids_below_0=ids(-40),
    ids_in_strings=ids(1, str),
    ids_all_the_same=one_id,
    no_iscrowd=without('iscrowd'),
    iscrowd_null=each(iscrowd=None),
    iscrowd_false=each(iscrowd=False),
    other_order=reverse,
    other_ids=renumber,
    all_ids_in_strings=strings,
    area_0=each(area=0),
    a_box_without_area=add(bbox=[7, 7, 0, 9]),
    an_image_that_is_not_there=add(image_id=77),
    a_category_that_is_not_there=add(category_id=77, segmentation=None),
    a_part_of_two_points=short_part,
)


@pytest.mark.parametrize('backend', BACKENDS[1:])
@pytest.mark.parametrize('classes', [CLASSES, CLASSES[::-1]], ids=str)
@pytest.mark.parametrize('name', EDITS)
def test_perfect_detections(name, classes, backend, tmp_path):
    content = annotations_of(2)
    EDITS[name](content)
    metrics = perfect(content, tmp_path / 'a.json', classes, backend=backend)
    assert metrics['coco/bbox_mAP'] == 1
    assert np.isclose(metrics['coco/segm_mAP'], 1, atol=1e-3)


@pytest.mark.parametrize('only', CLASSES)
@pytest.mark.parametrize('edit', [reverse, renumber])
@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_each_class_has_its_own_score(edit, only, backend, tmp_path):
    content = annotations_of(2)
    edit(content)
    metrics = perfect(content, tmp_path / 'a.json', only=only, classwise=True, backend=backend)
    found = {name: float(metrics[f'coco/{name}_precision']) for name in CLASSES}
    assert found == {name: float(name == only) for name in CLASSES}


def test_the_order_is_named_once(tmp_path, caplog, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'kw_mm.evaluation.ground_truth.print_log', lambda text, **options: lines.append(text)
    )
    content = annotations_of(2)
    reverse(content)
    perfect(content, tmp_path / 'a.json')
    (line,) = lines
    assert 'lists its categories as disc, box; the order of the classes is box, disc' in line


@pytest.mark.parametrize(
    'edit, words',
    [
        (lambda c: c['annotations'][1].update(area=None), 'area=None in annotations[1] (id 2)'),
        (lambda c: c['annotations'][1].update(bbox=[1, 2, 3]), 'bbox=[1, 2, 3] in annotations[1]'),
        (lambda c: c['annotations'][1].pop('area'), "lacks 'area' in annotations[1]"),
        (lambda c: c['annotations'][1].update(segmentation=[]), 'segmentation=[] in annotations'),
        (lambda c: c['annotations'][1].update(segmentation=[[1, 2, 3, float('nan'), 5, 6]]), 'nan'),
        (lambda c: c['annotations'][1].pop('segmentation'), "lacks 'segmentation'"),
        (lambda c: c['images'][0].update(width=None), 'width=None and height=64 of the image'),
        (lambda c: c['categories'][1].update(name='else'), 'got none of disc; it has box, else'),
        (lambda c: c['categories'].append(dict(id=7, name='box')), 'got two of one name'),
    ],
)
def test_what_cannot_be_evaluated_is_named(edit, words, tmp_path):
    content = annotations_of(2)
    edit(content)
    with pytest.raises(AnnotationError, match='a.json') as caught:
        perfect(content, tmp_path / 'a.json')
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'name, words',
    [
        ('sound', None),
        ('ids_from_0', 'id=0 in annotations[0], which it takes for unmatched'),
        ('ids_in_strings', "id='1'"),
        ('no_iscrowd', 'lacks iscrowd in annotations[0] (id 1)'),
        ('other_order', 'as disc, box, which is not the order of the classes, box, disc'),
    ],
)
def test_what_mmdets_own_metric_gets_wrong(name, words, tmp_path):
    content = annotations_of(2)
    EDITS[name](content)
    metric = CocoMetric(ann_file=write(tmp_path / 'a.json', content))
    fault = fault_of_stock_metric(metric._coco_api, CLASSES)
    assert (fault is None) if words is None else words in fault


@given(st.sampled_from(ANNOTATION_FIELDS), VALUES, st.integers(0, 3))
def test_any_value_is_named_or_scores_as_it_should(tmp_path_factory, field, value, place):
    content = annotations_of(2)
    content['annotations'][place][field] = value
    path = write(tmp_path_factory.getbasetemp() / 'any.json', content)
    content = json.loads(Path(path).read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            metric = KWCocoMetric(ann_file=path, metric='bbox')
        except AnnotationError as error:
            assert field in str(error) and f'annotations[{place}]' in str(error)
            return
        except (KeyError, TypeError):  # of pycocotools' index, for which building() has a sentence
            assert field in ('id', 'image_id', 'category_id') and isinstance(value, (list, dict))
            return
        metric.dataset_meta = dict(classes=CLASSES)
        known = [1, 2]
        for image in known:
            own = [
                one
                for one in content['annotations']
                if one['image_id'] == image and one['category_id'] in known
            ]
            boxes = torch.tensor([one['bbox'] for one in own], dtype=torch.float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = torch.tensor([known.index(one['category_id']) for one in own]).long()
            found = dict(bboxes=boxes, scores=torch.ones(len(own)), labels=labels)
            metric.process({}, [dict(img_id=image, ori_shape=(64, 96), pred_instances=found)])
        assert metric.evaluate(2)['coco/bbox_mAP'] == 1
